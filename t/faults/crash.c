/* Another module of the operator's: it brings down the worker that a request to its location comes to. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <signal.h>

static ngx_int_t crash(ngx_http_request_t *r) {
    volatile int *volatile nowhere = NULL;

    (void) r;
    /* Not AddressSanitizer's: this crash is none of its findings. */
    (void) signal(SIGSEGV, SIG_DFL);
    *nowhere = 1;
    return NGX_HTTP_NO_CONTENT;
}

static char *set(ngx_conf_t *cf, ngx_command_t *command, void *conf) {
    ngx_http_core_loc_conf_t *location = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    (void) command, (void) conf;
    location->handler = crash;
    return NGX_CONF_OK;
}

static ngx_command_t directives[] = {
    {ngx_string("crash"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set, 0, 0, NULL},
    ngx_null_command,
};

static ngx_http_module_t context = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};

ngx_module_t ngx_http_crash_module = {
    NGX_MODULE_V1, &context, directives, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING,
};

ngx_module_t *ngx_modules[] = {&ngx_http_crash_module, NULL};
char *ngx_module_names[] = {"ngx_http_crash_module", NULL};
char *ngx_module_order[] = {NULL};
