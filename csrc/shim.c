/*
 * Bit-fields of ngx_http_request_t, read and written by the compiler that laid them out.
 *
 * bindgen computes a different layout for them from nginx 1.29.3 on (a short field precedes them),
 * without an error: no request bit may be touched from Rust.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


ngx_uint_t
px_request_internal(ngx_http_request_t *r)
{
    return r->internal;
}


ngx_uint_t
px_request_filter_finalize(ngx_http_request_t *r)
{
    return r->filter_finalize;
}


ngx_uint_t
px_request_header_only(ngx_http_request_t *r)
{
    return r->header_only;
}


/* The answer's body must reach the body filters in memory, also for a HEAD parent. */
void
px_request_want_body(ngx_http_request_t *r)
{
    r->filter_need_in_memory = 1;
    r->header_only = 0;
}


/* The answer is not what the client's conditions (If-None-Match and the like) are about. */
void
px_request_ignore_conditions(ngx_http_request_t *r)
{
    r->disable_not_modified = 1;
}


/* The module looks at the answer's body on its way. */
void
px_request_want_in_memory(ngx_http_request_t *r)
{
    r->filter_need_in_memory = 1;
}


/* The module adds to the answer's body. */
void
px_response_grows(ngx_http_request_t *r)
{
    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);
    ngx_http_weak_etag(r);
    r->filter_need_in_memory = 1;
}


/* Nobody looks at the answer. */
void
px_request_want_no_body(ngx_http_request_t *r)
{
    r->header_only = 1;
    r->headers_in.chunked = 0;
}


/* The proxy module passes on the request's target as it stands, byte for byte. */
void
px_request_keep_target(ngx_http_request_t *r)
{
    r->valid_unparsed_uri = 1;
}


/*
 * A request that no client has sent: nginx's statistics do not know of it, and no log.  To be called
 * once, when it has just been made.
 */
void
px_request_is_nobodys(ngx_http_request_t *r)
{
#if (NGX_STAT_STUB)
    if (r->stat_reading) {
        (void) ngx_atomic_fetch_add(ngx_stat_reading, -1);
        (void) ngx_atomic_fetch_add(ngx_stat_requests, -1);
        r->stat_reading = 0;
    }
#endif
    r->logged = 1;
}


/*
 * The ":authority" of an HTTP/3 request that has no Host line: of HTTP/2's nginx makes one itself.
 * Empty otherwise.
 */
ngx_str_t
px_request_authority(ngx_http_request_t *r)
{
    ngx_str_t  authority = ngx_null_string;

    if (r->http_version == 3000 && r->headers_in.host == NULL
        && r->host_start != NULL && r->host_end > r->host_start)
    {
        authority.data = r->host_start;
        authority.len = r->host_end - r->host_start;
    }

    return authority;
}


/* One more user of the request, who will finalize it. */
void
px_request_hold(ngx_http_request_t *r)
{
    r->main->count++;
}


ngx_uint_t
px_request_is_chunked(ngx_http_request_t *r)
{
    return r->headers_in.chunked;
}


/*
 * The configurations of a synthetic location, with the resolver of the location that the request is in.
 * NULL where there is no memory.
 */
void **
px_confs_with_resolver_of(ngx_http_request_t *r, void **confs)
{
    void                      **copy;
    ngx_http_core_loc_conf_t   *clcf, *own;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    own = confs[ngx_http_core_module.ctx_index];
    if (own->resolver == clcf->resolver && own->resolver_timeout == clcf->resolver_timeout) {
        return confs;
    }
    copy = ngx_palloc(r->pool, sizeof(void *) * ngx_http_max_module);
    own = ngx_palloc(r->pool, sizeof(ngx_http_core_loc_conf_t));
    if (copy == NULL || own == NULL) {
        return NULL;
    }
    ngx_memcpy(copy, confs, sizeof(void *) * ngx_http_max_module);
    *own = *(ngx_http_core_loc_conf_t *) confs[ngx_http_core_module.ctx_index];
    own->loc_conf = copy;
    own->resolver = clcf->resolver;
    own->resolver_timeout = clcf->resolver_timeout;
    copy[ngx_http_core_module.ctx_index] = own;
    return copy;
}


/* The answer of the request's upstream ended before it was whole. */
ngx_uint_t
px_upstream_answer_is_cut(ngx_http_request_t *r)
{
    ngx_event_pipe_t     *p;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    p = u ? u->pipe : NULL;
    return p && (p->upstream_error
                 || (p->upstream_eof && !p->upstream_done && p->length != -1));
}


/* The client has not sent its body whole yet, and nginx passes it on as it comes. */
ngx_uint_t
px_request_is_reading_body(ngx_http_request_t *r)
{
    return r->reading_body;
}


/*
 * A body that goes into a file keeps its name until the request ends, as Lua's reader has it:
 * otherwise who comes later is told the name of a file that is gone.
 */
void
px_request_keep_body_file(ngx_http_request_t *r)
{
    if (!r->request_body_in_persistent_file) {
        r->request_body_in_persistent_file = 1;
        r->request_body_in_clean_file = 1;
    }
}


/* A part of a file, aligned or not, as the copy filter reads it. */
ssize_t
px_read_file(ngx_file_t *file, u_char *buf, size_t size, off_t offset)
{
    ssize_t  n;

#if (NGX_HAVE_ALIGNED_DIRECTIO)
    if (file->directio) {
        (void) ngx_directio_off(file->fd);
    }
#endif

    n = ngx_read_file(file, buf, size, offset);

#if (NGX_HAVE_ALIGNED_DIRECTIO)
    if (file->directio) {
        (void) ngx_directio_on(file->fd);
    }
#endif

    return n;
}


ngx_uint_t
px_connection_is_tls(ngx_connection_t *c)
{
#if (NGX_SSL)
    return c->ssl != NULL;
#else
    return 0;
#endif
}


#if !defined(nginx_version) || nginx_version < 1008011
#error "nginx 1.8.11 or newer is required"
#endif


/*
 * Where C finds the fields that Rust reads through the bindings.  Compared with the bindings when
 * the module is loaded: a difference is a bug of the binding generator, not of the operator's.
 */
typedef struct {
    const char  *name;
    size_t       offset;
} px_field_t;

#define px_field(type, field)  { #type "." #field, offsetof(type, field) }

const px_field_t  px_fields[] = {
    px_field(ngx_http_request_t, connection),
    px_field(ngx_http_request_t, ctx),
    px_field(ngx_http_request_t, loc_conf),
    px_field(ngx_http_request_t, upstream),
    px_field(ngx_http_request_t, pool),
    px_field(ngx_http_request_t, headers_in),
    px_field(ngx_http_request_t, headers_out),
    px_field(ngx_http_request_t, request_body),
    px_field(ngx_http_request_t, method),
    px_field(ngx_http_request_t, args),
    px_field(ngx_http_request_t, unparsed_uri),
    px_field(ngx_http_request_t, request_line),
    px_field(ngx_http_request_t, err_status),
    px_field(ngx_http_request_t, main),
    px_field(ngx_http_request_t, post_subrequest),
    px_field(ngx_http_request_t, content_handler),
    px_field(ngx_http_request_t, access_code),
    px_field(ngx_http_request_t, variables),
    px_field(ngx_http_request_t, cleanup),
    px_field(ngx_http_request_body_t, bufs),
    px_field(ngx_http_upstream_t, peer),
    px_field(ngx_http_upstream_t, length),
    px_field(ngx_connection_t, log),
    px_field(ngx_connection_t, addr_text),
    px_field(ngx_http_core_loc_conf_t, name),
    px_field(ngx_http_core_loc_conf_t, loc_conf),
    px_field(ngx_http_core_loc_conf_t, locations),
    px_field(ngx_http_core_loc_conf_t, handler),
    px_field(ngx_http_upstream_conf_t, temp_path),
    { NULL, 0 }
};
