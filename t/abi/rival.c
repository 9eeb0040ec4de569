/*
 * A module that defines a directive of ours, as the vendor's closed module does.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static char *ngx_http_rival_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


static ngx_command_t  ngx_http_rival_commands[] = {

    { ngx_string("px_app_id"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_rival_set, 0, 0, NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_rival_module_ctx = {
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};


ngx_module_t  ngx_http_rival_module = {
    NGX_MODULE_V1,
    &ngx_http_rival_module_ctx, ngx_http_rival_commands, NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};


ngx_module_t  *ngx_modules[] = { &ngx_http_rival_module, NULL };
char          *ngx_module_names[] = { "ngx_http_rival_module", NULL };
char          *ngx_module_order[] = { NULL };


static char *
ngx_http_rival_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return NGX_CONF_OK;
}
