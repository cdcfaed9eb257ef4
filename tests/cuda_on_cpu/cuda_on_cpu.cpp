/* The blocks and threads of cuda_on_cpu.h. Never built with -fsanitize=thread itself: what the fibers exchange here is no
 * memory of the program under test, and order between them is told to ThreadSanitizer by name. */
#include "cuda_on_cpu.h"

extern "C" {
#include "base/half.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

/* There only if the program is linked with that sanitizer. */
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom,
                                                           size_t *size);
__attribute__((weak)) void *__tsan_get_current_fiber(void);
__attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void *address);
__attribute__((weak)) void __tsan_release(void *address);
__attribute__((weak)) void __asan_poison_memory_region(const volatile void *memory, size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *memory, size_t bytes);
}

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

constexpr int MAX_THREADS = 1024, WARP = 32, NO_SYNC = 1;
constexpr size_t STACK_BYTES = 256 * 1024, MAX_SHARED = 99 * 1024, MAX_STATIC = 48 * 1024;
constexpr size_t UNASKED = 40 * 1024; /* dynamic; what LAUNCH on CUDA does not ask for has 48 KiB in all */
constexpr size_t ARENA_BYTES = 2 * 99 * 1024, GAP = 64; /* nothing may touch the gaps between arrays */

enum wait_kind { RUNS, WAITS_FOR_BLOCK, WAITS_FOR_WARP, ENDED };

struct place {
    const char *file;
    int line;
    bool operator==(const place &other) const {
        return line == other.line && (file == other.file || strcmp(file, other.file) == 0);
    }
};

struct fiber {
#ifdef __x86_64__
    void *stack_pointer;
#else
    ucontext_t context;
#endif
    char *stack;
    void *fake_stack, *tsan;
    uint3 index;
    wait_kind state;
    place at;
    unsigned mask;
    bool predicate;
    uint64_t value, seen[WARP]; /* brought to, and found by, a warp operation */
};

/* A warp operation that lanes wait in. */
struct warp_group {
    place at;
    unsigned mask, arrived;
    int number;
};
warp_group groups[MAX_THREADS / WARP][WARP];

/* Under ThreadSanitizer two sets take turns, block by block: a thread then knows nothing of the block before, so what two
 * neighbouring blocks do to the same memory is found. */
fiber fiber_sets[2][MAX_THREADS];
fiber *fibers = fiber_sets[0];
fiber scheduler;
const void *main_bottom;
size_t main_size;

struct launch_state {
    place at;
    int threads, running;
    void (*body)(const void *);
    const void *context;
    int current, order;
    uint64_t serial; /* of the block, over all launches */
    char *arena;     /* shared memory of the block */
    bool arena_dirty;
    size_t dynamic_bytes, static_bytes, arena_used;
    int barriers, predicates, participants, groups;
} now;

/* Places in memory that stand for an order of events. */
char block_start, grid_end, barrier_place[2], warp_place[1 << 16];

[[noreturn]] void fail(const char *message) {
    const fiber &f = fibers[now.current];
    fprintf(stderr, "cuda_on_cpu: %s\n  kernel launched at %s:%d, block (%u,%u,%u) of (%u,%u,%u)\n", message,
            now.at.file, now.at.line, blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z);
    fprintf(stderr, "  thread %d at %s:%d\n", now.current, f.at.file ? f.at.file : "its start", f.at.line);
    static const char *const names[] = {"runs", "waits for the block", "waits for its warp", "has ended"};
    for (int i = 0, last = -1; i < now.threads; i++) {
        const fiber &t = fibers[i];
        if (last >= 0 && t.state == fibers[last].state && t.at.line == fibers[last].at.line) continue;
        last = i;
        fprintf(stderr, "  thread %d on: %s, last seen at %s:%d, mask %08x\n", i, names[t.state],
                t.at.file ? t.at.file : "its start", t.at.line, t.mask);
    }
    abort();
}

#ifdef __x86_64__
extern "C" void cuda_on_cpu_swap(void **save, void *load);
asm(".text\n"
    ".type cuda_on_cpu_swap, @function\n"
    "cuda_on_cpu_swap:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size cuda_on_cpu_swap, . - cuda_on_cpu_swap\n");

void swap_machine(fiber *from, fiber *to) {
    cuda_on_cpu_swap(&from->stack_pointer, to->stack_pointer);
}

void prepare_machine(fiber *f, void (*entry)()) {
    void **top = reinterpret_cast<void **>(f->stack + STACK_BYTES) - 3; /* entry finds rsp = 8 modulo 16 */
    *top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->stack_pointer = top;
}
#else
void swap_machine(fiber *from, fiber *to) {
    swapcontext(&from->context, &to->context);
}

void prepare_machine(fiber *f, void (*entry)()) {
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
}
#endif

void enter_fiber(int index) {
    fiber *f = &fibers[index];
    now.current = index;
    threadIdx = f->index;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&scheduler.fake_stack, f->stack, STACK_BYTES);
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(f->tsan, NO_SYNC);
    swap_machine(&scheduler, f);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
}

void leave_fiber() {
    fiber *f = &fibers[now.current];
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&f->fake_stack, main_bottom, main_size);
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(scheduler.tsan, NO_SYNC);
    swap_machine(f, &scheduler);
    if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);
}

/* A fiber lives as long as the program and runs one thread of block after block. */
void fiber_main() {
    if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &main_bottom, &main_size);
    for (;;) {
        if (__tsan_acquire) __tsan_acquire(&block_start);
        now.body(now.context);
        if (__tsan_release) __tsan_release(&grid_end);
        fibers[now.current].state = ENDED;
        now.running--;
        leave_fiber();
    }
}

void make_fiber(fiber *f) {
    void *memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for a fiber's stack");
    f->stack = static_cast<char *>(memory);
    if (__tsan_create_fiber) f->tsan = __tsan_create_fiber(0);
    prepare_machine(f, fiber_main);
}

int gcd(int a, int b) {
    return b ? gcd(b, a % b) : a;
}

/* The i-th of n in the order that was set. */
int in_order(int i, int n) {
    if (now.order == 0) return i;
    if (now.order == 1) return n - 1 - i;
    int step = n / 2 + n / 8 + 1;
    while (gcd(step, n) != 1) step++;
    return (int)(((int64_t)i * step + n / 3) % n);
}

/* All threads that still run stand at the block's barrier: do they stand at the same one? */
void release_block() {
    const fiber *first = nullptr;
    now.predicates = now.participants = 0;
    for (int i = 0; i < now.threads; i++) {
        fiber *f = &fibers[i];
        if (f->state != WAITS_FOR_BLOCK) continue;
        if (!first) first = f;
        if (!(f->at == first->at)) fail("threads of a block wait at different barriers");
        now.predicates += f->predicate;
        now.participants++;
    }
    now.barriers++;
    for (int i = 0; i < now.threads; i++)
        if (fibers[i].state == WAITS_FOR_BLOCK) fibers[i].state = RUNS;
}

void run_threads() {
    now.running = now.threads;
    for (int i = 0; i < now.threads; i++) {
        fiber *f = &fibers[i];
        f->index = {(unsigned)i % blockDim.x, (unsigned)i / blockDim.x % blockDim.y,
                    (unsigned)i / (blockDim.x * blockDim.y)};
        f->state = RUNS;
        f->at = {nullptr, 0};
        if (!f->stack) make_fiber(f);
    }
    while (now.running > 0) {
        bool moved = false;
        int at_barrier = 0;
        for (int i = 0; i < now.threads; i++) {
            int thread = in_order(i, now.threads);
            if (fibers[thread].state != RUNS) continue;
            enter_fiber(thread);
            moved = true;
        }
        for (int i = 0; i < now.threads; i++) at_barrier += fibers[i].state == WAITS_FOR_BLOCK;
        if (now.running > 0 && at_barrier == now.running)
            release_block();
        else if (!moved)
            fail("threads wait for each other for ever");
    }
}

/* Memory of a block that no block had before, as ThreadSanitizer sees it: mapping it anew is what tells it so. */
void renew_shared() {
    if (now.arena && !now.arena_dirty) return;
    now.arena_dirty = false;
    if (!now.arena || __tsan_create_fiber) {
        int fixed = now.arena ? MAP_FIXED : 0;
        void *memory =
            mmap(now.arena, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
        if (memory == MAP_FAILED) fail("no memory for shared memory");
        now.arena = static_cast<char *>(memory);
    }
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(now.arena, ARENA_BYTES);
    memset(now.arena, 0xFF, ARENA_BYTES);
    if (__asan_poison_memory_region) __asan_poison_memory_region(now.arena, ARENA_BYTES);
}

/* Offset of the next array in the arena. */
size_t take_shared(size_t bytes) {
    size_t at = now.arena_used;
    now.arena_dirty = true;
    now.arena_used += (bytes + GAP + 15) / 16 * 16;
    if (now.arena_used > ARENA_BYTES) fail("too much shared memory");
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(now.arena + at, bytes);
    return at;
}

void run_block() {
    now.serial++;
    if (__tsan_create_fiber) fibers = fiber_sets[now.serial % 2];
    renew_shared();
    now.static_bytes = now.arena_used = 0;
    if (now.dynamic_bytes) take_shared(now.dynamic_bytes);
    if (__tsan_release) __tsan_release(&block_start);
    run_threads();
}

/* The warp operation at f's place and with f's mask that lanes wait in already, or a new one. */
warp_group *find_group(int warp, const fiber *f) {
    warp_group *unused = nullptr;
    for (warp_group &g : groups[warp]) {
        if (g.arrived && g.mask == f->mask && g.at == f->at) return &g;
        if (!g.arrived) {
            unused = &g;
            break; /* open operations stand in front */
        }
    }
    if (!unused) fail("more warp operations than lanes");
    for (int lane = 0; lane < WARP; lane++) {
        if (!(f->mask >> lane & 1u)) continue;
        if (warp * WARP + lane >= now.threads)
            fail("the mask of a warp operation names a lane the block does not have");
        if (fibers[warp * WARP + lane].state == ENDED)
            fail("the mask of a warp operation names a lane that has ended");
    }
    *unused = {f->at, f->mask, 0, now.groups++};
    return unused;
}

/* All lanes are there: each gets what all have brought. */
void complete_group(int warp, warp_group *g) {
    fiber *lanes = &fibers[warp * WARP];
    uint64_t values[WARP] = {0};
    for (int lane = 0; lane < WARP; lane++)
        if (g->mask >> lane & 1u) values[lane] = lanes[lane].value;
    for (int lane = 0; lane < WARP; lane++) {
        if (!(g->mask >> lane & 1u)) continue;
        memcpy(lanes[lane].seen, values, sizeof values);
        lanes[lane].state = RUNS;
    }
    warp_group *last = g;
    while (last + 1 < groups[warp] + WARP && last[1].arrived) last++;
    *g = *last;
    last->arrived = 0;
}

} // namespace

void cuda_on_cpu_set_order(int order) {
    now.order = order;
}

void cuda_on_cpu_run(const char *file, int line, dim3 grid, dim3 block, size_t shared_bytes,
                     void (*body)(const void *), const void *context) {
    now.at = {file, line};
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    gridDim = grid;
    blockDim = block;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads < 1 || threads > MAX_THREADS || block.z > 64) fail("blocks have 1 to 1024 threads");
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) fail("the grid is too large");
    if (shared_bytes > MAX_SHARED) fail("more than 99 KiB of shared memory");
    if (now.body) fail("a kernel launches a kernel");
    if (__tsan_get_current_fiber) scheduler.tsan = __tsan_get_current_fiber();
    now.threads = (int)threads;
    now.body = body;
    now.context = context;
    now.dynamic_bytes = shared_bytes;
    int blocks = (int)(grid.x * grid.y * grid.z);
    for (int i = 0; i < blocks; i++) {
        unsigned b = (unsigned)in_order(i, blocks);
        blockIdx = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        run_block();
    }
    if (__tsan_acquire) __tsan_acquire(&grid_end);
    now.body = nullptr;
}

void *cuda_on_cpu_dynamic_shared() {
    return now.arena;
}

void *cuda_on_cpu_static_shared(uint64_t seen[2], size_t bytes) {
    if (seen[0] != now.serial) {
        now.static_bytes += bytes;
        if (now.static_bytes > MAX_STATIC) fail("more than 48 KiB of SHARED_ARRAYs");
        if (now.static_bytes + now.dynamic_bytes > MAX_SHARED) fail("more than 99 KiB of shared memory");
        if (now.dynamic_bytes <= UNASKED && now.static_bytes + now.dynamic_bytes > MAX_STATIC)
            fail("more than 48 KiB of shared memory, which the launch does not ask for");
        seen[0] = now.serial;
        seen[1] = take_shared(bytes);
    }
    return now.arena + seen[1];
}

int cuda_on_cpu_sync_block(const char *file, int line, bool predicate, int *threads) {
    fiber *f = &fibers[now.current];
    char *order = &barrier_place[now.barriers % 2];
    f->at = {file, line};
    f->predicate = predicate;
    f->state = WAITS_FOR_BLOCK;
    if (__tsan_release) __tsan_release(order);
    leave_fiber();
    if (__tsan_acquire) __tsan_acquire(order);
    if (threads) *threads = now.participants;
    return now.predicates;
}

int cuda_on_cpu_lane() {
    return now.current % WARP;
}

const uint64_t *cuda_on_cpu_sync_warp(const char *file, int line, unsigned mask, uint64_t value,
                                      bool orders_memory) {
    fiber *f = &fibers[now.current];
    int warp = now.current / WARP, lane = now.current % WARP;
    f->at = {file, line};
    f->mask = mask;
    f->value = value;
    if (!(mask >> lane & 1u)) fail("the mask of a warp operation lacks the calling lane");
    warp_group *g = find_group(warp, f);
    char *order = &warp_place[g->number % (int)sizeof warp_place];
    if (orders_memory && __tsan_release) __tsan_release(order);
    f->state = WAITS_FOR_WARP;
    g->arrived |= 1u << lane;
    if (g->arrived == mask)
        complete_group(warp, g);
    else
        leave_fiber();
    if (orders_memory && __tsan_acquire) __tsan_acquire(order);
    return f->seen;
}

/* ---- 16-bit floats --------------------------------------------------------------------------------------- */

float __bfloat162float(__nv_bfloat16 x) {
    return bfloat16_to_float(x.bits);
}

__nv_bfloat16 __float2bfloat16(float x) {
    return {bfloat16_from_float(x)};
}

float __half2float(__half x) {
    return float16_to_float(x.bits);
}

__half __float2half(float x) {
    return {float16_from_float(x)};
}
