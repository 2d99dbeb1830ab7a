// Fibers for the threads of a block, and the kernels by their names.
#define SHOAL_ON_CPU
#include "../shoal.cu"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ucontext.h>
#include <vector>

thread_local Place threadIdx, blockIdx, gridDim;
thread_local uint4* shared_memory;

namespace {

using Kernel = void (*)(const void* parameters);

constexpr u32 N_LANES = 32;
constexpr std::size_t STACK_BYTES = 256 << 10;
/// A fiber that is resumed so often while it waits for the same barrier waits for nothing.
constexpr u32 PATIENCE = 100000;

struct Barrier {
    u32 n_arrived = 0;
    u32 n_passed = 0;
};

struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    std::unique_ptr<unsigned char[]> stack;
    bool has_started = false;
    bool is_done = false;
};

struct Warp {
    Barrier barrier;
    unsigned char gifts[2][N_LANES * GIFT_BYTES];
    u32 n_gifts[N_LANES];
};

/// The block that runs on this system thread.
struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Barrier barrier;
    bool is_any_set = false;
    Kernel kernel;
    const void* parameters;
    jmp_buf whole;
};

thread_local Block block;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "emulated kernel: %s (block %u %u %u, thread %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x);
    std::abort();
}

void enter() {
    block.kernel(block.parameters);
    block.fibers[threadIdx.x].is_done = true;
    // Lanes return together: one that has left its warp behind would be missed at the next barrier.
    for (u32 next = 0; next < block.fibers.size(); ++next) {
        if (block.fibers[next].is_done) continue;
        threadIdx.x = next;
        Fiber& fiber = block.fibers[next];
        if (fiber.has_started) _longjmp(fiber.resume, 1);
        fiber.has_started = true;
        setcontext(&fiber.start);
    }
    _longjmp(block.whole, 1);
}

/// Lets another fiber run until it is this one's turn again.
void yield_to(u32 next) {
    Fiber& own = block.fibers[threadIdx.x];
    u32 self = threadIdx.x;
    if (next == self) return;
    if (_setjmp(own.resume) == 0) {
        threadIdx.x = next;
        Fiber& fiber = block.fibers[next];
        if (fiber.has_started) _longjmp(fiber.resume, 1);
        fiber.has_started = true;
        setcontext(&fiber.start);
    }
    threadIdx.x = self;
}

/// The next fiber of the same warp that is not done, or of the next warps where that is the first lane's turn.
u32 next_fiber() {
    const u32 n = static_cast<u32>(block.fibers.size()), first = threadIdx.x / N_LANES * N_LANES;
    for (u32 step = 1; step < N_LANES; ++step) {
        u32 lane = (threadIdx.x - first + step) % N_LANES;
        if (lane == 0) break;
        if (!block.fibers[first + lane].is_done) return first + lane;
    }
    for (u32 step = 0; step < n / N_LANES; ++step) {
        u32 warp = (first + N_LANES + step * N_LANES) % n;
        for (u32 lane = 0; lane < N_LANES; ++lane) {
            if (!block.fibers[warp + lane].is_done) return warp + lane;
        }
    }
    return threadIdx.x;
}

void wait(Barrier& barrier, u32 n) {
    u32 turn = barrier.n_passed;
    if (++barrier.n_arrived == n) {
        barrier.n_arrived = 0;
        ++barrier.n_passed;
        return;
    }
    for (u32 tries = 0; barrier.n_passed == turn; ++tries) {
        if (tries == PATIENCE) fail("not all threads reach this barrier");
        yield_to(next_fiber());
    }
}

template <typename Parameters, void (*KERNEL)(Parameters)>
void call(const void* parameters) {
    KERNEL(*static_cast<const Parameters*>(parameters));
}

struct Named {
    const char* name;
    Kernel kernel;
};

#define ONE(NAME) {#NAME, call<const LloydPass, NAME>}
#define LLOYD(N) ONE(lloyd_##N), ONE(lloyd_streamed_##N), ONE(exact_##N), ONE(exact_streamed_##N)

const Named KERNELS[] = {
    LLOYD(16), LLOYD(32), LLOYD(48), LLOYD(64), LLOYD(96), LLOYD(128), LLOYD(192), LLOYD(256),
    {"halve_rows", call<const HalvedRows, halve_rows>},
    {"add_moves", call<const Moves, add_moves>},
    {"add_moves_weighted", call<const Moves, add_moves_weighted>},
    {"add_moves_in_global", call<const Moves, add_moves_in_global>},
    {"add_moves_weighted_in_global", call<const Moves, add_moves_weighted_in_global>},
    {"list_stale", call<const StaleRows, list_stale>},
    {"place_rows", call<const PlacedRows, place_rows>},
    {"add_pairs", call<const Pairs, add_pairs>},
};

void run_block() {
    block.barrier = {};
    for (Warp& warp : block.warps) warp = Warp{};
    for (Fiber& fiber : block.fibers) {
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        fiber.start.uc_stack.ss_size = STACK_BYTES;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, enter, 0);
        fiber.has_started = fiber.is_done = false;
    }
    if (_setjmp(block.whole) != 0) return;
    threadIdx = {0, 0, 0};
    block.fibers[0].has_started = true;
    setcontext(&block.fibers[0].start);
}

}  // namespace

void wait_for_warp() { wait(block.warps[threadIdx.x / N_LANES].barrier, N_LANES); }
void wait_for_block() { wait(block.barrier, static_cast<u32>(block.fibers.size())); }

bool any_in_block(bool is_set) {
    block.is_any_set = block.is_any_set || is_set;
    wait_for_block();
    bool result = block.is_any_set;
    wait_for_block();
    block.is_any_set = false;
    wait_for_block();
    return result;
}

void check_mask(u32 mask) {
    if (mask != 0xffffffffu) fail("only whole warps talk to each other here");
}

const unsigned char* give_to_warp(const void* gift, std::size_t bytes) {
    Warp& warp = block.warps[threadIdx.x / N_LANES];
    const u32 lane = threadIdx.x % N_LANES;
    unsigned char* gifts = warp.gifts[warp.n_gifts[lane]++ % 2];
    std::memcpy(gifts + lane * GIFT_BYTES, gift, bytes);
    wait(warp.barrier, N_LANES);
    return gifts;
}

/// Runs a kernel over a grid; 0 if there is none of that name.
extern "C" int shoal_emulate(const char* name, const u32 grid[3], u32 n_threads, std::size_t shared_bytes, const void* parameters) {
    for (const Named& named : KERNELS) {
        if (std::strcmp(named.name, name) != 0) continue;
        block.kernel = named.kernel;
        block.parameters = parameters;
        block.warps.resize(n_threads / N_LANES);
        if (block.fibers.size() != n_threads) {
            block.fibers.clear();
            block.fibers.resize(n_threads);
            for (Fiber& fiber : block.fibers) fiber.stack = std::make_unique<unsigned char[]>(STACK_BYTES);
        }
        std::vector<uint4> shared(shared_bytes / sizeof(uint4) + 1);
        shared_memory = shared.data();
        gridDim = {grid[0], grid[1], grid[2]};
        for (u32 idx = 0; idx < grid[0] * grid[1] * grid[2]; ++idx) {
            std::memset(shared.data(), 0xa5, shared_bytes);
            blockIdx = {idx % grid[0], idx / grid[0] % grid[1], idx / grid[0] / grid[1]};
            run_block();
        }
        return 1;
    }
    return 0;
}
