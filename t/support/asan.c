/*
 * Linked into the nginx that t/host builds as `asan`: its processes leave a mark each, so that t/sanitize
 * knows how many ran, and what they find in files, whatever their stderr is and whoever they run as.  The
 * settings are in the program, not in its environment: they hold after a binary upgrade, too.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>


const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);
int __lsan_is_turned_off(void);
int __wrap_dlclose(void *handle);

/* What this process is: nginx's os/unix/ngx_process_cycle.h.  The programs by which configure tries things have none. */
extern unsigned long  ngx_process __attribute__((weak));

#define MASTER  1
#define WORKER  3


const char *
__asan_default_options(void)
{
    return "log_path=" REPORTS "/report:log_exe_name=1:print_suppressions=0"
           ":detect_stack_use_after_return=1:strict_string_checks=1";
}


/*
 * nginx's own: what it compiles regular expressions with is made once, and stays; a worker ends without
 * freeing its connections.
 */
const char *
__lsan_default_suppressions(void)
{
    return "leak:ngx_regex_malloc\n"
           "leak:ngx_event_process_init\n";
}


/* `nginx -t` and what does not get so far as to serve leave all of their memory to the system. */
int
__lsan_is_turned_off(void)
{
    return &ngx_process == NULL || (ngx_process != MASTER && ngx_process != WORKER);
}


/* Were a module unloaded at the end, a report could not name its functions. */
int
__wrap_dlclose(void *handle)
{
    (void) handle;

    return 0;
}


static void
mark(void)
{
    int  fd;

    fd = open(REPORTS "/processes", O_WRONLY|O_CREAT|O_APPEND, 0666);
    if (fd != -1) {
        (void) !write(fd, ".", 1);
        (void) close(fd);
    }
}


static void __attribute__((constructor))
start(void)
{
    mark();
    (void) pthread_atfork(NULL, NULL, mark);
}
