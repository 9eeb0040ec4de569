/*
 * Preloaded into nginx: counts the blocks of heap that its first process, the master, holds. The
 * counter is the first eight bytes of the file PX_LIVE_BLOCKS names. Workers do not count.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static volatile int64_t *counter;
static pid_t master;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("PX_LIVE_BLOCKS");
    int file = path == NULL ? -1 : open(path, O_RDWR);
    if (file >= 0) {
        void *memory = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory != MAP_FAILED) {
            counter = memory;
            master = getpid();
        }
    }
}

static void *count(void *block, int64_t by) {
    if (block != NULL && counter != NULL && getpid() == master) {
        __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
    }
    return block;
}

void *malloc(size_t size) {
    return count(__libc_malloc(size), 1);
}

void *calloc(size_t count_, size_t size) {
    return count(__libc_calloc(count_, size), 1);
}

void *realloc(void *old, size_t size) {
    void *block = __libc_realloc(old, size);
    if (old == NULL) {
        count(block, 1);
    } else if (block == NULL && size == 0) {
        count(old, -1);
    }
    return block;
}

void *memalign(size_t alignment, size_t size) {
    return count(__libc_memalign(alignment, size), 1);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    *memory = memalign(alignment, size);
    return *memory == NULL ? ENOMEM : 0;
}

void free(void *block) {
    count(block, -1);
    __libc_free(block);
}
