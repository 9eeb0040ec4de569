/*
 * A module as most are: it believes nginx's checks of version and options. Every request makes it look at
 * the URI, where the headers it was compiled with say that it is.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static ngx_int_t ngx_http_unguarded_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_unguarded_module_ctx = {
    NULL, ngx_http_unguarded_init, NULL, NULL, NULL, NULL, NULL, NULL
};


ngx_module_t  ngx_http_unguarded_module = {
    NGX_MODULE_V1,
    &ngx_http_unguarded_module_ctx, NULL, NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};


ngx_module_t  *ngx_modules[] = { &ngx_http_unguarded_module, NULL };
char          *ngx_module_names[] = { "ngx_http_unguarded_module", NULL };
char          *ngx_module_order[] = { NULL };


static ngx_int_t
ngx_http_unguarded_handler(ngx_http_request_t *r)
{
    ngx_uint_t  i, sum;

    for (i = 0, sum = 0; i < r->uri.len; i++) {
        sum += r->uri.data[i];
    }

    return sum == 0 ? NGX_HTTP_FORBIDDEN : NGX_DECLINED;
}


static ngx_int_t
ngx_http_unguarded_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_unguarded_handler;

    return NGX_OK;
}
