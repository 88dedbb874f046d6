/*
 * compute/opencl/ptx_emulated.cl - the instructions of ptx.cl in plain OpenCL, so that
 * all that is around them can be tested on any device: where an operand's elements lie,
 * what is copied when, who has which part of a sum.
 *
 * All items of a group call each of these together. What an instruction passes between
 * the lanes of a warp goes through local memory. A copy is made as late as the
 * instructions allow, so that a wait that is missing shows.
 */
enum { COPY_GROUPS = 8, COPIES_OF_GROUP = 8, EXCHANGE = 6 /* words of an item */ };

struct machine {
    uint item, lane, warp;
    local uint *exchange;        // (THREADS,EXCHANGE)
    local const uint4 *tiles;    /* all that matrices are loaded from */
    uint ended, done, in_group;  /* groups; copies of the one that has not ended */
    uint counts[COPY_GROUPS];
    local uint4 *to[COPY_GROUPS * COPIES_OF_GROUP];
    global const uint4 *from[COPY_GROUPS * COPIES_OF_GROUP];
};

#define MACHINE(name, tiles)                                                       \
    local uint name##_exchange[THREADS * EXCHANGE];                                \
    struct machine name;                                                           \
    begin_machine(&name, name##_exchange, tiles)

static void begin_machine(struct machine *machine, local uint *exchange,
                          local const uint4 *tiles)
{
    machine->item = get_local_id(0);
    machine->lane = machine->item % 32;
    machine->warp = machine->item - machine->lane;
    machine->exchange = exchange;
    machine->tiles = tiles;
    machine->ended = machine->done = machine->in_group = 0;
}

static void copy_later(struct machine *machine, local uint4 *to, global const uint4 *from)
{
    const uint at =
        machine->ended % COPY_GROUPS * COPIES_OF_GROUP + machine->in_group++;

    machine->to[at] = to;
    machine->from[at] = from;
}

static void end_copies(struct machine *machine)
{
    machine->counts[machine->ended++ % COPY_GROUPS] = machine->in_group;
    machine->in_group = 0;
}

static void wait_copies(struct machine *machine)
{
    for (; machine->done + PENDING < machine->ended; machine->done++) {
        const uint group = machine->done % COPY_GROUPS;

        for (uint i = 0; i < machine->counts[group]; i++)
            *machine->to[group * COPIES_OF_GROUP + i] =
                *machine->from[group * COPIES_OF_GROUP + i];
    }
}

static uint4 load_matrices(struct machine *machine, local const uint4 *row)
{
    const uint lane = machine->lane;
    uint words[4];

    machine->exchange[machine->item] = (uint)(row - machine->tiles);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) {
        const uint place = machine->exchange[machine->warp + 8 * i + lane / 4];

        words[i] = ((local const uint *)(machine->tiles + place))[lane % 4];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return (uint4)(words[0], words[1], words[2], words[3]);
}

/* The first or the @second element of a word of two. */
static float half_of(uint word, uint second)
{
    return as_float(second ? word & 0xffff0000u : word << 16);
}

/*
 * With g = lane / 4 and t = lane % 4 a lane has
 *
 *     of a    words 0 to 3: (g,2t), (g+8,2t), (g,2t+8), (g+8,2t+8), and the next of k
 *     of b    words 0, 1: (2t,g), (2t+8,g), and the next of k
 *     of sum  (g,2t), (g,2t+1), (g+8,2t), (g+8,2t+1)
 *
 * The order in which a device sums the 16 products is its own; here it is that of k.
 */
static float4 multiply_add(struct machine *machine, float4 sum, uint4 a, uint2 b)
{
    local uint *mine = machine->exchange + machine->item * EXCHANGE;
    local const uint *warp = machine->exchange + machine->warp * EXCHANGE;
    const uint g = machine->lane / 4, t = machine->lane % 4;
    float out[4] = {sum.x, sum.y, sum.z, sum.w};

    mine[0] = a.x;
    mine[1] = a.y;
    mine[2] = a.z;
    mine[3] = a.w;
    mine[4] = b.x;
    mine[5] = b.y;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) {
        const uint lower = i / 2, column = 2 * t + i % 2;

        for (uint q = 0; q < 16; q++) {
            const uint holder = q % 8 / 2, upper = q / 8;
            const uint x = warp[(g * 4 + holder) * EXCHANGE + lower + 2 * upper];
            const uint y = warp[(column * 4 + holder) * EXCHANGE + 4 + upper];

            out[i] = fma(half_of(x, q % 2), half_of(y, q % 2), out[i]);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return (float4)(out[0], out[1], out[2], out[3]);
}
