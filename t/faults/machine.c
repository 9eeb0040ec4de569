/*
 * Preloaded into nginx: a machine that fails when it is told to, by the numbers in the file PX_MACHINE,
 * which the test writes and all processes read (struct machine). All zero: everything is as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

struct machine {
    /* Milliseconds that the time of day is ahead. */
    int64_t ahead;
    /* No threads are to be had. */
    int64_t no_threads;
    /* The file system of files whose path has "/spool/" in it is full. */
    int64_t disk_full;
    /* One allocation of nginx itself in so many fails, on event loops. */
    int64_t nginx_every;
    /* So many allocations of the module fail, on event loops; counted down. */
    int64_t module_next;
    /* What has failed so far. */
    int64_t failed;
};

static struct machine none;
static volatile struct machine *machine = &none;
/* Where the code of nginx, and of the module, lies. */
static uintptr_t nginx_begins, nginx_ends, module_begins, module_ends;

static int find(struct dl_phdr_info *info, size_t size, void *data) {
    uintptr_t *begins = NULL, *ends = NULL;
    (void) size, (void) data;
    if (info->dlpi_name[0] == '\0') {
        begins = &nginx_begins, ends = &nginx_ends;
    } else if (strstr(info->dlpi_name, "ngx_http_px_module") != NULL) {
        begins = &module_begins, ends = &module_ends;
    } else {
        return 0;
    }
    for (int at = 0; at < info->dlpi_phnum; at++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[at];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            *begins = info->dlpi_addr + part->p_vaddr;
            *ends = *begins + part->p_memsz;
        }
    }
    return 0;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("PX_MACHINE");
    int file = path == NULL ? -1 : open(path, O_RDWR);
    if (file >= 0) {
        void *memory = mmap(NULL, sizeof(none), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory != MAP_FAILED) {
            machine = memory;
        }
    }
}

/* The clock. */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int rc = (int) syscall(SYS_clock_gettime, clock, now);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += machine->ahead / 1000;
    }
    return rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL) {
        *at = now.tv_sec;
    }
    return now.tv_sec;
}

/* Threads. */

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *data) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (machine->no_threads != 0) {
        __atomic_fetch_add(&machine->failed, 1, __ATOMIC_RELAXED);
        return EAGAIN;
    }
    *(void **) &real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, how, run, data);
}

/* The disk: there is room for half of what is to be written, then for nothing. */

static int is_full(int file) {
    char name[64], path[512];
    if (machine->disk_full == 0) {
        return 0;
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof(path) - 1);
    path[length < 0 ? 0 : length] = '\0';
    return strstr(path, "/spool/") != NULL;
}

ssize_t write(int file, const void *bytes, size_t count) {
    static _Thread_local int is_cut;
    if (is_full(file)) {
        __atomic_fetch_add(&machine->failed, 1, __ATOMIC_RELAXED);
        is_cut = !is_cut;
        if (!is_cut) {
            errno = ENOSPC;
            return -1;
        }
        count /= 2;
    }
    return syscall(SYS_write, file, bytes, count);
}

/* Memory. */

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

static int is_refused(void *caller) {
    static _Thread_local uint64_t calls;
    uintptr_t from = (uintptr_t) caller;
    int64_t every = machine->nginx_every;
    if ((every == 0 && machine->module_next == 0) || syscall(SYS_gettid) != getpid()) {
        return 0;
    }
    if (module_begins == 0) {
        dl_iterate_phdr(find, NULL);
    }
    if (every != 0 && from >= nginx_begins && from < nginx_ends && ++calls % every == 0) {
        __atomic_fetch_add(&machine->failed, 1, __ATOMIC_RELAXED);
        errno = ENOMEM;
        return 1;
    }
    if (machine->module_next > 0 && from >= module_begins && from < module_ends
        && __atomic_fetch_sub(&machine->module_next, 1, __ATOMIC_RELAXED) > 0)
    {
        __atomic_fetch_add(&machine->failed, 1, __ATOMIC_RELAXED);
        errno = ENOMEM;
        return 1;
    }
    return 0;
}

void *malloc(size_t size) {
    return is_refused(CALLER) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return is_refused(CALLER) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return is_refused(CALLER) ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (is_refused(CALLER)) {
        return ENOMEM;
    }
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? ENOMEM : 0;
}
