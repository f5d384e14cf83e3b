// Touches memory in one function and gives half of it back, in the ways a kernel knows. Each command
// is one; all answer `done`, or `not here` where the kernel does not do that.

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "control.h"

#define PAGE 4096ul
#define HUGE (2ul << 20)
// Chunks of read(2): a buffer of this size at a time.
#define CHUNK (1ul << 20)

static char *area;
static uint64_t area_bytes;

static char *map(uint64_t bytes, int flags, int file) {
    void *got = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
    return got == MAP_FAILED ? NULL : got;
}

static char *map_private(uint64_t bytes) { return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

MERGED void write_pages(char *start, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += PAGE) {
        ((volatile char *)start)[at] = 1;
    }
}

NAMED void touch_in_c(char *start, uint64_t bytes) {
    write_pages(start, bytes);
    sink++;
}

NAMED void read_in_c(char *start, uint64_t bytes) {
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        if (syscall(SYS_read, zeros, start + at, CHUNK) != (long)CHUNK) {
            _exit(1);
        }
    }
    close(zeros);
}

// Only looks: the kernel shows every such page the same zeroes.
NAMED void look_in_c(char *start, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += PAGE) {
        sink += (uint64_t)((volatile char *)start)[at];
    }
}

NAMED void copy_in_c(char *start, uint64_t bytes) {
    write_pages(start, bytes);
    sink += 2;
}

// A few pages here and there, so that something of this function is sampled if anything is.
NAMED void innocent_in_c(void) {
    char *few = map_private(64 * PAGE);
    write_pages(few, 64 * PAGE);
    munmap(few, 64 * PAGE);
}

NAMED void churn_in_c(uint64_t bytes, int by_advice) {
    static char *kept;
    if (kept == NULL || !by_advice) {
        kept = map_private(bytes);
    }
    write_pages(kept, bytes);
    if (by_advice) {
        madvise(kept, bytes, MADV_DONTNEED);
    } else {
        munmap(kept, bytes);
    }
    sink++;
}

NAMED void leak_in_c(uint64_t bytes) {
    write_pages(map_private(bytes), bytes);
    sink++;
}

NAMED void one_page_in_c(char *at) { write_pages(at, PAGE); sink++; }
NAMED void more_pages_in_c(char *at, uint64_t pages) { write_pages(at, pages * PAGE); sink++; }

// One page here and `pages` there in turn: 256 MiB in all.
NAMED void in_turn(uint64_t pages) {
    uint64_t bytes = (256ul << 20) / ((pages + 1) * PAGE) * ((pages + 1) * PAGE);
    char *start = map_private(bytes);
    for (char *at = start; at < start + bytes; at += (pages + 1) * PAGE) {
        one_page_in_c(at);
        more_pages_in_c(at + PAGE, pages);
    }
}

// Ten turns a second: 1 MiB a second is leaked, 100 are taken and given back.
NAMED void leak_beside_churn(uint64_t seconds, int by_advice) {
    for (uint64_t turn = 0; turn < seconds * 10; turn++) {
        churn_in_c(10ul << 20, by_advice);
        leak_in_c(CHUNK / 10 / PAGE * PAGE);
        usleep(100000);
    }
}

static uint64_t huge_kib(void) {
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    char line[128];
    uint64_t kib = 0;
    while (rollup != NULL && fgets(line, sizeof line, rollup) != NULL) {
        sscanf(line, "AnonHugePages: %lu", &kib);
    }
    if (rollup != NULL) {
        fclose(rollup);
    }
    return kib;
}

// Whether the kernel gave huge pages.
static int touch_huge(uint64_t bytes) {
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    char *got = map_private(bytes + HUGE);
    area = (char *)(((uint64_t)got + HUGE - 1) & ~(HUGE - 1));
    madvise(area, bytes, MADV_HUGEPAGE);
    touch_in_c(area, bytes / 2);
    // A sample stands for all huge pages since the one before, and has the address of the last; a call
    // in between ends it. Else one could be of both halves, on a machine where others fault.
    munmap(map_private(PAGE), PAGE);
    touch_in_c(area + bytes / 2, bytes / 2);
    return huge_kib() * 1024 > bytes / 10 * 9;
}

static void give_half(void) { munmap(area + area_bytes / 2, area_bytes / 2); }

static pid_t child;
static int to_child[2], from_child[2];

// A child that has what its parent has, and does what it is told by a letter: `h` gives half back,
// `c` writes to all of it, `s` stays when its parent has ended.
static void fork_child(void) {
    if (pipe(to_child) != 0 || pipe(from_child) != 0) {
        _exit(1);
    }
    child = fork();
    if (child != 0) {
        return;
    }
    char letter;
    close(to_child[1]);
    while (read(to_child[0], &letter, 1) == 1) {
        if (letter == 'h') {
            give_half();
        } else if (letter == 'c') {
            copy_in_c(area, area_bytes);
        }
        if (write(from_child[1], &letter, 1) != 1) {
            break;
        }
        if (letter == 's') {
            sleep(60);
        }
    }
    _exit(0);
}

static void tell_child(char letter) {
    char echo;
    if (write(to_child[1], &letter, 1) != 1 || read(from_child[0], &echo, 1) != 1) {
        _exit(1);
    }
}

// Moves the area to where it was not.
static void move(void) {
    char *place = map_private(area_bytes);
    area = mremap(area, area_bytes, area_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place);
}

// Has another process write to all of the area.
NAMED void written_by_another(char *start, uint64_t bytes) {
    pid_t self = getpid(), writer = fork();
    if (writer == 0) {
        static char chunk[CHUNK];
        for (uint64_t at = 0; at < bytes; at += CHUNK) {
            struct iovec from = {chunk, CHUNK}, to = {start + at, CHUNK};
            if (process_vm_writev(self, &from, 1, &to, 1, 0) != (ssize_t)CHUNK) {
                _exit(1);
            }
        }
        _exit(0);
    }
    int status;
    waitpid(writer, &status, 0);
    if (status != 0) {
        _exit(1);
    }
}

NAMED void many_small_mappings(uint64_t count) {
    for (uint64_t at = 0; at < count; at++) {
        char *got = map_private(((at % 7) + 1) * PAGE);
        munmap(got, ((at % 7) + 1) * PAGE);
    }
}

// Whether the command was one, and could be done.
static int run(const char *command, uint64_t number, char **arguments) {
    uint64_t bytes = number << 20;
    if (strcmp(command, "touch") == 0) {
        touch_in_c(area = map_private(area_bytes = bytes), bytes);
    } else if (strcmp(command, "huge") == 0) {
        return touch_huge(area_bytes = bytes);
    } else if (strcmp(command, "read") == 0) {
        read_in_c(area = map_private(area_bytes = bytes), bytes);
    } else if (strcmp(command, "look") == 0) {
        look_in_c(area = map_private(area_bytes = bytes), bytes);
    } else if (strcmp(command, "shared") == 0) {
        area = map(area_bytes = bytes, MAP_SHARED | MAP_ANONYMOUS, -1);
        touch_in_c(area, bytes);
    } else if (strcmp(command, "written") == 0) {
        written_by_another(area = map_private(area_bytes = bytes), bytes);
    } else if (strcmp(command, "populate") == 0) {
        return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1) != NULL;
    } else if (strcmp(command, "innocent") == 0) {
        for (uint64_t at = 0; at < number; at++) {
            innocent_in_c();
        }
    } else if (strcmp(command, "half") == 0) {
        give_half();
    } else if (strcmp(command, "advise") == 0) {
        madvise(area + area_bytes / 2, area_bytes / 2, MADV_DONTNEED);
    } else if (strcmp(command, "move") == 0) {
        move();
    } else if (strcmp(command, "copy") == 0) {
        copy_in_c(area, area_bytes);
    } else if (strcmp(command, "fork") == 0) {
        fork_child();
    } else if (strcmp(command, "child-half") == 0) {
        tell_child('h');
    } else if (strcmp(command, "child-copy") == 0) {
        tell_child('c');
    } else if (strcmp(command, "child-stay") == 0) {
        tell_child('s');
    } else if (strcmp(command, "child-end") == 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    } else if (strcmp(command, "end") == 0) {
        answer("done");
        _exit(0);
    } else if (strcmp(command, "leak") == 0 || strcmp(command, "leak-advise") == 0) {
        leak_beside_churn(number, command[4] != 0);
    } else if (strcmp(command, "turns") == 0) {
        in_turn(number);
    } else if (strcmp(command, "map-many") == 0) {
        many_small_mappings(number);
    } else if (strcmp(command, "exec") == 0) {
        execv("/proc/self/exe", arguments);
        return 0;
    } else {
        return 0;
    }
    return 1;
}

int main(int count, char **arguments) {
    // Some kernels give huge pages to everybody, and then the other commands are about those.
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    (void)count;
    char line[64];
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        char *number = strchr(line, ' ');
        if (number != NULL) {
            *number++ = 0;
        }
        uint64_t value = number == NULL ? 0 : strtoul(number, NULL, 10);
        answer(run(line, value, arguments) ? "done" : "not here");
    }
    return 0;
}
