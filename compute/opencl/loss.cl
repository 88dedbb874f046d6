/*
 * compute/opencl/loss.cl - softmax cross-entropy of rows of logits, and, in place, its
 * gradient. A group for each row.
 *
 * A row's loss is a pair of floats that are to be added: log sum exp(x - top), and
 * top - target. The greatest may pass over a NaN; the sum of exponentials meets it again,
 * so that a row with a NaN or an infinity has a loss that says so.
 */
ROW_KERNEL void cross_entropy(OUT(float, losses), OUT(float, logits), IN(uint, targets),
                              const uint V, const uint backward)
{
    local float scratch[GROUP];
    const ulong r = get_group_id(0);
    const uint target = AT(targets)[r];
    global float *row = AT(logits) + r * V;
    vec most = (vec)(-INFINITY), total = (vec)(0.0f);
    float top = -INFINITY, rest = 0.0f, sum, inverse;

    FOR_VECTORS(c, V) {
        const vec x = LOAD(row + c);

        most = x > most ? x : most;
    }
    FOR_REST(c, V)
        top = row[c] > top ? row[c] : top;
    top = greatest_of_group(fmax(greatest_of_lanes(most), top), scratch);
    /* What the target had is for its owner to read: others may come too late. */
    FOR_VECTORS(c, V) {
        const vec x = exp_vec(LOAD(row + c) - top);

        if (target - c < VECTOR)
            AT(losses)[2 * r + 1] = top - row[target];
        STORE(row + c, x);
        total += x;
    }
    FOR_REST(c, V) {
        const float x = exp_one(row[c] - top);

        if (c == target)
            AT(losses)[2 * r + 1] = top - row[c];
        row[c] = x;
        rest += x;
    }
    sum = sum_of_group(sum_of_lanes(total) + rest, scratch);
    if (get_local_id(0) == 0)
        AT(losses)[2 * r] = log(sum);
    if (!backward)
        return;
    inverse = 1.0f / sum;
    /* Each element by the item that wrote it. */
    FOR_VECTORS(c, V) {
        STORE(row + c, LOAD(row + c) * inverse);
        if (target - c < VECTOR)
            row[target] -= 1.0f;
    }
    FOR_REST(c, V)
        row[c] = c == target ? row[c] * inverse - 1.0f : row[c] * inverse;
}

/* a + b without loss: their rounded sum, and what rounding took (Knuth). Infinities and
 * NaN come out as NaN. */
static float2 exact_sum(float a, float b)
{
    const float sum = a + b, part = sum - a;

    return (float2)(sum, (a - (sum - part)) + (b - part));
}

/*
 * The sum of @n pairs, as a pair. GROUP items, each with every GROUP-th pair in order, then
 * a tree; every sum in two floats, which is about as exact as in double.
 */
ROW_KERNEL void sum_losses(OUT(float, sum), IN(float, losses), const uint n)
{
    local float2 scratch[GROUP];
    const uint item = get_local_id(0);
    global const float *pair = AT(losses);
    float2 total = (float2)(0.0f);

    for (uint i = item; i < n; i += GROUP) {
        const float2 one = exact_sum(pair[2 * i], pair[2 * i + 1]);
        const float2 both = exact_sum(total.x, one.x);

        total = exact_sum(both.x, both.y + (total.y + one.y));
    }
    scratch[item] = total;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint width = GROUP / 2; width > 0; width /= 2) {
        if (item < width) {
            const float2 a = scratch[item], b = scratch[item + width];
            const float2 both = exact_sum(a.x, b.x);

            scratch[item] = exact_sum(both.x, both.y + (a.y + b.y));
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (item == 0) {
        AT(sum)[0] = scratch[0].x;
        AT(sum)[1] = scratch[0].y;
    }
}
