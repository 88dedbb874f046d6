/*
 * compute/opencl/ptx.cl - four instructions of NVIDIA's devices from compute capability
 * 8.0 on, which no OpenCL function gives (NVIDIA: "Parallel Thread Execution ISA", the
 * chapters of mma.m16n8k16, ldmatrix, cp.async). ptx_emulated.cl says what they do, and
 * has the same functions for any device.
 *
 * A warp is 32 items that follow each other in a group of one dimension: that item i is
 * lane i % 32 is what NVIDIA's devices do, and what the test of the product at the start
 * of a worker relies on to be shown wrong.
 */
#define MACHINE(name, tiles) struct machine name = {get_local_id(0) % 32}

struct machine {
    uint lane;
};

/* Places in local memory are pointers of a space of their own, whose value is the place
 * that instructions with .shared take. */
static uint place_of(local const uint4 *at)
{
    return (uint)(size_t)at;
}

/* 16 bytes, some time before wait_copies() of their group returns. */
static void copy_later(struct machine *machine, local uint4 *to, global const uint4 *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"(place_of(to)), "l"((ulong)from)
                 : "memory");
}

/* What this item has begun to copy since the last of these is a group. */
static void end_copies(struct machine *machine)
{
    asm volatile("cp.async.commit_group;" : : : "memory");
}

#define PTX_TEXT(x)  PTX_TEXT_(x)
#define PTX_TEXT_(x) #x

/* Until this item's groups but the last PENDING are there. */
static void wait_copies(struct machine *machine)
{
    asm volatile("cp.async.wait_group " PTX_TEXT(PENDING) ";" : : : "memory");
}

/* Four 8 x 8 matrices of bf16: lane 8 i + r gives where row r of matrix i is; lane l gets
 * elements 2 (l % 4) and the next of row l / 4 of each. */
static uint4 load_matrices(struct machine *machine, local const uint4 *row)
{
    uint x, y, z, w;

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                 : "r"(place_of(row))
                 : "memory");
    return (uint4)(x, y, z, w);
}

/* sum (16,8) + a (16,16) b (16,8): f32 and bf16. */
static float4 multiply_add(struct machine *machine, float4 sum, uint4 a, uint2 b)
{
    float x = sum.x, y = sum.y, z = sum.z, w = sum.w;

    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
    return (float4)(x, y, z, w);
}
