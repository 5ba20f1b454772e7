// Attention of one token to a range of its sequence: for up to WIDTH * BLOCKS query heads that share keys.
//
// Tile by tile, each thread scores a key of its own; then threads share out the values, each with a unit of a few tokens.
// The past is cut into tiles of SIZE tokens, and tiles into `n_split` ranges, one for each workgroup: how many depends on
// the token's position alone, so that its sums are the same whatever stands beside it. Where there are several ranges,
// unfinished sums go to `parts`, and attention_join.wgsl joins them.
struct Params {
    // The plan's tasks, from this word on.
    tasks: u32, n_task: u32,
    n_head: u32, n_head_kv: u32,
    // Tokens that are seen, or 0 for all of them.
    window: u32,
    has_sinks: u32,
    // Where the largest scores and sums begin among the parts.
    stats: u32,
    scale: f32,
}
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> plan: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> sinks: array<f32>;
@group(0) @binding(5) var<storage, read_write> parts: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// As in plan.rs.
struct Task { token: u32, split: u32, n_split: u32, visible: u32, pages: u32, part: u32 }

// Below every score that is a number.
const LOWEST: f32 = -3e38;
const PADDED: u32 = UNITS * 8u;
// Threads that share a token's values, and tokens that are summed side by side.
const SLICES: u32 = SIZE / UNITS;
// Values that a thread reads at a time.
const AHEAD: u32 = 4u;
const EIGHTHS: u32 = SIZE / 8u;

var<workgroup> query: array<Heads, BLOCKS * PADDED>;
var<workgroup> scores: array<Heads, BLOCKS * SIZE>;
var<workgroup> eighths: array<Heads, BLOCKS * EIGHTHS>;
// The cells of a tile's pages.
var<workgroup> cells: array<u32, SIZE / PAGE>;

fn task_at(i: u32) -> Task {
    let at = p.tasks + i * 6u;
    return Task(plan[at], plan[at + 1u], plan[at + 2u], plan[at + 3u], plan[at + 4u], plan[at + 5u]);
}

// Query heads `first` and on, times the scale; zeros behind `end`.
fn load_query(token: u32, first: u32, end: u32, thread: u32) {
    for (var i = thread; i < BLOCKS * PADDED; i += SIZE) {
        let d = i % PADDED;
        var x: array<f32, WIDTH>;
        for (var w = 0u; w < WIDTH; w++) {
            let head = first + i / PADDED * WIDTH + w;
            x[w] = 0.0;
            if head < end && d < HEAD {
                x[w] = q[(token * p.n_head + head) * HEAD + d] * p.scale;
            }
        }
        query[i] = heads(x);
    }
}

// The scores of one key.
fn score(cell: u32, index: u32) -> array<Heads, BLOCKS> {
    var sums: array<Heads, BLOCKS>;
    // The next unit is on its way while one is computed with.
    var next = key_at(cell, index, 0u);
    for (var unit = 0u; unit < UNITS; unit++) {
        let k = next;
        next = key_at(cell, index, min(unit + 1u, UNITS - 1u));
        for (var b = 0u; b < BLOCKS; b++) {
            let at = b * PADDED + unit * 8u;
            sums[b] += query[at] * k.low.x + query[at + 1u] * k.low.y
                + query[at + 2u] * k.low.z + query[at + 3u] * k.low.w
                + query[at + 4u] * k.high.x + query[at + 5u] * k.high.y
                + query[at + 6u] * k.high.z + query[at + 7u] * k.high.w;
        }
    }
    return sums;
}

// The tokens of a workgroup: those that the query's token sees, and of their tiles a range.
struct Range { seen_from: u32, begin_tile: u32, end_tile: u32 }

fn range_of(task: Task) -> Range {
    let seen_from = select(0u, task.visible - min(task.visible, p.window), p.window > 0u);
    let first_tile = seen_from / SIZE;
    let n_tile = (task.visible + SIZE - 1u) / SIZE - first_tile;
    let per_split = (n_tile + task.n_split - 1u) / task.n_split;
    let begin = first_tile + min(n_tile, task.split * per_split);
    return Range(seen_from, begin, first_tile + min(n_tile, (task.split + 1u) * per_split));
}

// What a thread knows of the softmax: the largest score of all keys so far, and the sum over its own. Sums of values
// are of its unit and of every SLICES-th token.
struct Softmax { largest: array<Heads, BLOCKS>, sum: array<Heads, BLOCKS>, sums: array<Heads, BLOCKS * 8u> }

// The largest score of all threads, after `scores` were written.
fn largest_of_tile(b: u32, before: Heads) -> Heads {
    var most = before;
    for (var e = 0u; e < EIGHTHS; e++) {
        most = max(most, eighths[b * EIGHTHS + e]);
    }
    return most;
}

// Turns the tile's scores, of which this thread has its own, into weights.
fn weigh(softmax: ptr<function, Softmax>, own: array<Heads, BLOCKS>, seen: bool, thread: u32) {
    for (var b = 0u; b < BLOCKS; b++) {
        scores[b * SIZE + thread] = own[b];
    }
    workgroupBarrier();
    for (var j = thread; j < BLOCKS * EIGHTHS; j += SIZE) {
        var most = scores[j * 8u];
        for (var e = 1u; e < 8u; e++) {
            most = max(most, scores[j * 8u + e]);
        }
        eighths[j] = most;
    }
    workgroupBarrier();
    for (var b = 0u; b < BLOCKS; b++) {
        let most = largest_of_tile(b, softmax.largest[b]);
        let shrink = exp(softmax.largest[b] - most);
        let weight = select(Heads(), exp(own[b] - most), seen);
        softmax.largest[b] = most;
        softmax.sum[b] = softmax.sum[b] * shrink + weight;
        for (var j = 0u; j < 8u; j++) {
            softmax.sums[b * 8u + j] *= shrink;
        }
        scores[b * SIZE + thread] = weight;
    }
    workgroupBarrier();
}

// Adds the values of tokens `begin .. end` of the tile. What lies outside is not even read: pages hold what other
// sequences left there.
fn add_values(softmax: ptr<function, Softmax>, begin: u32, end: u32, thread: u32) {
    let unit = thread % UNITS;
    let slice = thread / UNITS;
    for (var t = begin + slice; t < end && slice < SLICES; t += SLICES * AHEAD) {
        // Reads first, so that they are on their way together. The last one again, where there are no more.
        var v: array<Eight, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            let at = min(t + i * SLICES, end - 1u);
            v[i] = value_at(cells[at / PAGE], at % PAGE, unit);
        }
        for (var i = 0u; i < AHEAD; i++) {
            let at = t + i * SLICES;
            for (var b = 0u; b < BLOCKS; b++) {
                let weight = select(Heads(), scores[b * SIZE + min(at, SIZE - 1u)], at < end);
                for (var j = 0u; j < 4u; j++) {
                    softmax.sums[b * 8u + j] += weight * v[i].low[j];
                    softmax.sums[b * 8u + 4u + j] += weight * v[i].high[j];
                }
            }
        }
    }
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = group.y * 65535u + group.x;
    if i >= p.n_task {
        return;
    }
    let task = task_at(i);
    // Heads that share keys may be more than one workgroup takes.
    let sharing = p.n_head / p.n_head_kv;
    let workgroups = (sharing + WIDTH * BLOCKS - 1u) / (WIDTH * BLOCKS);
    let head_kv = group.z / workgroups;
    let first = head_kv * sharing + group.z % workgroups * (WIDTH * BLOCKS);
    let end = (head_kv + 1u) * sharing;
    load_query(task.token, first, end, thread);

    let range = range_of(task);
    var softmax: Softmax;
    for (var b = 0u; b < BLOCKS; b++) {
        softmax.largest[b] = Heads(LOWEST);
    }
    for (var tile = range.begin_tile; tile < range.end_tile; tile++) {
        let tile_first = tile * SIZE;
        let position = tile_first + thread;
        let seen = position >= range.seen_from && position < task.visible;
        // The query is there, or the weights of the tile before are read.
        workgroupBarrier();
        let page_first = tile_first + thread * PAGE;
        if thread < SIZE / PAGE && page_first < task.visible {
            cells[thread] = plan[task.pages + page_first / PAGE] * p.n_head_kv + head_kv;
        }
        var own: array<Heads, BLOCKS>;
        if seen {
            let page = plan[task.pages + position / PAGE];
            own = score(page * p.n_head_kv + head_kv, position % PAGE);
        } else {
            for (var b = 0u; b < BLOCKS; b++) {
                own[b] = Heads(LOWEST);
            }
        }
        weigh(&softmax, own, seen, thread);
        let begin = max(range.seen_from, tile_first) - tile_first;
        add_values(&softmax, begin, min(task.visible - tile_first, SIZE), thread);
    }
    let sum = total(softmax.sum, thread);
    finish(task, first, end, thread, softmax.largest, sum, softmax.sums);
}

// The sum over all threads, in a fixed order.
fn total(own: array<Heads, BLOCKS>, thread: u32) -> array<Heads, BLOCKS> {
    workgroupBarrier();
    for (var b = 0u; b < BLOCKS; b++) {
        scores[b * SIZE + thread] = own[b];
    }
    workgroupBarrier();
    for (var j = thread; j < BLOCKS * EIGHTHS; j += SIZE) {
        var sum = scores[j * 8u];
        for (var e = 1u; e < 8u; e++) {
            sum += scores[j * 8u + e];
        }
        eighths[j] = sum;
    }
    workgroupBarrier();
    var sums: array<Heads, BLOCKS>;
    for (var b = 0u; b < BLOCKS; b++) {
        for (var e = 0u; e < EIGHTHS; e++) {
            sums[b] += eighths[b * EIGHTHS + e];
        }
    }
    return sums;
}

// Joins the slices' sums, one of a unit's eight values after the other, and writes them.
fn finish(
    task: Task, first: u32, end: u32, thread: u32,
    largest: array<Heads, BLOCKS>, sum: array<Heads, BLOCKS>, sums: array<Heads, BLOCKS * 8u>,
) {
    for (var j = 0u; j < 8u; j++) {
        workgroupBarrier();
        for (var b = 0u; b < BLOCKS; b++) {
            scores[b * SIZE + thread] = sums[b * 8u + j];
        }
        workgroupBarrier();
        for (var i = thread; i < BLOCKS * UNITS; i += SIZE) {
            let b = i / UNITS;
            let d = i % UNITS * 8u + j;
            var whole = scores[b * SIZE + i % UNITS];
            for (var s = 1u; s < SLICES; s++) {
                whole += scores[b * SIZE + s * UNITS + i % UNITS];
            }
            for (var w = 0u; w < WIDTH; w++) {
                let head = first + b * WIDTH + w;
                if head < end && d < HEAD {
                    write(task, head, d, of_head(whole, w), of_head(largest[b], w), of_head(sum[b], w));
                }
            }
        }
    }
}

fn write(task: Task, head: u32, d: u32, value: f32, largest: f32, sum: f32) {
    if task.n_split == 1u {
        var divisor = sum;
        if p.has_sinks == 1u {
            divisor += exp(sinks[head] - largest);
        }
        out[(task.token * p.n_head + head) * HEAD + d] = value / divisor;
        return;
    }
    let part = (task.part + task.split) * p.n_head + head;
    parts[part * HEAD + d] = value;
    if d == 0u {
        parts[p.stats + 2u * part] = largest;
        parts[p.stats + 2u * part + 1u] = sum;
    }
}
