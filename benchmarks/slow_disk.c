/* Make a disk's flush slower: preload this into a program, and each fsync and fdatasync of it takes FLUSH_DELAY_US
 * microseconds longer. For judging commits as they are on a disk that is not this machine's (cloud volumes: 500-5000).
 *
 * cc -shared -fPIC -O2 -o slow_disk.so slow_disk.c -ldl;  LD_PRELOAD=./slow_disk.so FLUSH_DELAY_US=4000 program
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static long delay_us = -1;

static void wait_a_little(void) {
    if (delay_us < 0) {
        const char *text = getenv("FLUSH_DELAY_US");
        delay_us = text ? atol(text) : 0;
    }
    struct timespec left = {delay_us / 1000000, (delay_us % 1000000) * 1000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_a_little();
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_a_little();
    return real(fd);
}
