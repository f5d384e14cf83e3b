// Two threads that take two locks in opposite orders: `lock` has them meet, and says `deadlocked FIRST
// SECOND`, the threads' ids. `leak N` makes N threads that wait for something that never comes.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <sys/syscall.h>
#include <thread>

#include "control.h"

static std::mutex first, second;
static std::atomic<int> holding;
static std::atomic<long> tids[2];

static void meet(int who) {
    tids[who] = syscall(SYS_gettid);
    holding++;
    while (holding < 2) {
        std::this_thread::yield();
    }
}

NAMED void first_then_second() {
    std::lock_guard<std::mutex> one(first);
    meet(0);
    std::lock_guard<std::mutex> other(second);
}

NAMED void second_then_first() {
    std::lock_guard<std::mutex> one(second);
    meet(1);
    std::lock_guard<std::mutex> other(first);
}

NAMED void wait_for_what_never_comes() {
    static std::mutex mutex;
    static std::condition_variable never;
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        never.wait(lock);
    }
}

NAMED void leak_threads(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        std::thread(wait_for_what_never_comes).detach();
    }
}

int main() {
    char line[128], text[128];
    unsigned count;
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        if (strcmp(line, "lock") == 0) {
            std::thread(first_then_second).detach();
            std::thread(second_then_first).detach();
            while (holding < 2) {
                std::this_thread::yield();
            }
            snprintf(text, sizeof text, "deadlocked %ld %ld", tids[0].load(), tids[1].load());
            answer(text);
        } else if (sscanf(line, "leak %u", &count) == 1) {
            leak_threads(count);
            answer("leaked");
        }
    }
    // The threads never end.
    _exit(0);
}
