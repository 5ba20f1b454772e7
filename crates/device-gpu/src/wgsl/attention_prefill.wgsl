// Attention of many tokens of a sequence: a workgroup takes ROWS queries that share keys, a row being one head of one
// token, and goes through their past KEYS tokens at a time.
//
// Scores: a thread has two keys and some rows, four to a vector; queries are in shared memory. Weights: a thread has a
// few keys of four rows. Sums: a thread has four rows of one unit of the values, whose reads the rows' threads share in
// the nearest cache. Tiles begin at multiples of KEYS, so that a row's sums are the same whatever rows are beside it.
struct Params {
    // The plan's spans, from this word on.
    spans: u32, n_span: u32,
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

// As in plan.rs. The first token's row in the batch, its position, and what `attention_decode.wgsl` calls so.
struct Span { token: u32, n_tok: u32, position: u32, n_split: u32, pages: u32, part: u32 }

// Rows of a workgroup, from `first` on, and its share of their past.
struct Job { span: Span, first: u32, split: u32, head_kv: u32, sharing: u32 }

// Below every score that is a number.
const LOWEST: f32 = -3e38;
const FOURS: u32 = ROWS / 4u;
// Scores: threads side by side over the keys, and vectors of rows that each has.
const LANES: u32 = KEYS / 2u;
const VECTORS: u32 = FOURS * LANES / SIZE;
// Values that a thread reads at a time.
const AHEAD: u32 = 4u;
// Weights: threads that share four rows.
const SHARES: u32 = SIZE / FOURS;
// An odd number of vectors from one row of shared memory to the next keeps its banks apart.
const QUERY_STRIDE: u32 = UNITS * 8u + 1u;
const SCORE_STRIDE: u32 = FOURS | 1u;

var<workgroup> query: array<vec4<f32>, FOURS * QUERY_STRIDE>;
var<workgroup> scores: array<vec4<f32>, KEYS * SCORE_STRIDE>;
var<workgroup> shares: array<vec4<f32>, SHARES * FOURS>;
var<workgroup> shrinks: array<vec4<f32>, FOURS>;

fn span_at(i: u32) -> Span {
    let at = p.spans + i * 6u;
    return Span(plan[at], plan[at + 1u], plan[at + 2u], plan[at + 3u], plan[at + 4u], plan[at + 5u]);
}

// Workgroups go through all blocks of rows and splits of the first span, then of the next. Blocks with a long past
// come first, so that none is left alone at the end.
fn job_of(group: vec3<u32>) -> Job {
    var job: Job;
    job.head_kv = group.z;
    job.sharing = p.n_head / p.n_head_kv;
    var i = group.y * 65535u + group.x;
    for (var s = 0u; s < p.n_span; s++) {
        job.span = span_at(s);
        let n_block = (job.span.n_tok * job.sharing + ROWS - 1u) / ROWS;
        let n = n_block * job.span.n_split;
        if i < n {
            job.first = (n_block - 1u - i / job.span.n_split) * ROWS;
            job.split = i % job.span.n_split;
            return job;
        }
        i -= n;
    }
    // Beyond the last.
    job.span.n_tok = 0u;
    return job;
}

// Which token of the span, and which head, a row is.
fn token_of(job: Job, row: u32) -> u32 {
    return (job.first + row) / job.sharing;
}

fn head_of(job: Job, row: u32) -> u32 {
    return job.head_kv * job.sharing + (job.first + row) % job.sharing;
}

// Tokens that four rows see: from, and up to.
struct Seen { begin: vec4<u32>, end: vec4<u32> }

fn seen_by(job: Job, four: u32) -> Seen {
    let row = job.first + four * 4u + vec4(0u, 1u, 2u, 3u);
    let end = job.span.position + row / job.sharing + 1u;
    return Seen(select(vec4(0u), end - min(end, vec4(p.window)), p.window > 0u), end);
}

// Queries, times the scale; zeros where there is no row.
fn load_query(job: Job, thread: u32) {
    const PADDED = UNITS * 8u;
    for (var i = thread; i < FOURS * PADDED; i += SIZE) {
        let d = i % PADDED;
        let four = i / PADDED;
        var x: vec4<f32>;
        for (var w = 0u; w < 4u; w++) {
            let token = token_of(job, four * 4u + w);
            if token < job.span.n_tok && d < HEAD {
                let head = head_of(job, four * 4u + w);
                x[w] = q[((job.span.token + token) * p.n_head + head) * HEAD + d] * p.scale;
            }
        }
        query[four * QUERY_STRIDE + d] = x;
    }
}

// Scores of two keys and this thread's rows, to `scores`. A key behind the past is scored as the last one.
fn score(job: Job, tile: u32, end: u32, thread: u32) {
    let lane = thread % LANES;
    let first = thread / LANES * VECTORS;
    let at = min(tile * KEYS + vec2(lane, lane + LANES), vec2(end - 1u));
    let cell_a = plan[job.span.pages + at.x / PAGE] * p.n_head_kv + job.head_kv;
    let cell_b = plan[job.span.pages + at.y / PAGE] * p.n_head_kv + job.head_kv;
    var sums: array<vec4<f32>, 2u * VECTORS>;
    // The next unit is on its way while one is computed with.
    var next_a = key_at(cell_a, at.x % PAGE, 0u);
    var next_b = key_at(cell_b, at.y % PAGE, 0u);
    for (var unit = 0u; unit < UNITS; unit++) {
        let a = next_a;
        let b = next_b;
        next_a = key_at(cell_a, at.x % PAGE, min(unit + 1u, UNITS - 1u));
        next_b = key_at(cell_b, at.y % PAGE, min(unit + 1u, UNITS - 1u));
        for (var v = 0u; v < VECTORS; v++) {
            let x = (first + v) * QUERY_STRIDE + unit * 8u;
            let q0 = query[x];
            let q1 = query[x + 1u];
            let q2 = query[x + 2u];
            let q3 = query[x + 3u];
            let q4 = query[x + 4u];
            let q5 = query[x + 5u];
            let q6 = query[x + 6u];
            let q7 = query[x + 7u];
            sums[2u * v] += q0 * a.low.x + q1 * a.low.y + q2 * a.low.z + q3 * a.low.w
                + q4 * a.high.x + q5 * a.high.y + q6 * a.high.z + q7 * a.high.w;
            sums[2u * v + 1u] += q0 * b.low.x + q1 * b.low.y + q2 * b.low.z + q3 * b.low.w
                + q4 * b.high.x + q5 * b.high.y + q6 * b.high.z + q7 * b.high.w;
        }
    }
    // The weights of the tile before are read.
    workgroupBarrier();
    for (var v = 0u; v < VECTORS; v++) {
        scores[lane * SCORE_STRIDE + first + v] = sums[2u * v];
        scores[(lane + LANES) * SCORE_STRIDE + first + v] = sums[2u * v + 1u];
    }
    workgroupBarrier();
}

// What a thread knows of the softmax of its four rows: the largest score of all keys so far, and the sum over its own.
struct Softmax { largest: vec4<f32>, sum: vec4<f32> }

// Turns scores into weights, and leaves in `shrinks` what the sums so far are to be multiplied with.
fn weigh(before: Softmax, seen: Seen, tile: u32, thread: u32) -> Softmax {
    let four = thread % FOURS;
    let share = thread / FOURS;
    var now = before;
    for (var t = share; t < KEYS && share < SHARES; t += SHARES) {
        let position = vec4(tile * KEYS + t);
        let visible = position >= seen.begin & position < seen.end;
        let score = select(vec4(LOWEST), scores[t * SCORE_STRIDE + four], visible);
        now.largest = max(now.largest, score);
    }
    if share < SHARES {
        shares[share * FOURS + four] = now.largest;
    }
    workgroupBarrier();
    for (var s = 0u; s < SHARES; s++) {
        now.largest = max(now.largest, shares[s * FOURS + four]);
    }
    let shrink = exp(before.largest - now.largest);
    now.sum *= shrink;
    for (var t = share; t < KEYS && share < SHARES; t += SHARES) {
        let position = vec4(tile * KEYS + t);
        let visible = position >= seen.begin & position < seen.end;
        let score = scores[t * SCORE_STRIDE + four];
        let weight = select(vec4(0.0), exp(score - now.largest), visible);
        scores[t * SCORE_STRIDE + four] = weight;
        now.sum += weight;
    }
    if share == 0u {
        shrinks[four] = shrink;
    }
    workgroupBarrier();
    return now;
}

// Adds a unit of the tile's values to four rows' sums. What lies behind the past is not even read: pages hold what other
// sequences left there.
fn add_values(job: Job, tile: u32, end: u32, four: u32, unit: u32, sums: ptr<function, array<vec4<f32>, 8>>) {
    for (var j = 0u; j < 8u; j++) {
        sums[j] *= shrinks[four];
    }
    for (var t = tile * KEYS; t < min(end, (tile + 1u) * KEYS); t += PAGE) {
        let cell = plan[job.span.pages + t / PAGE] * p.n_head_kv + job.head_kv;
        let n = min(PAGE, end - t);
        for (var index = 0u; index < n; index += AHEAD) {
            // Reads first, so that they are on their way together. The last one again, where there are no more: its
            // weights are zeros there.
            var v: array<Eight, AHEAD>;
            for (var i = 0u; i < AHEAD; i++) {
                v[i] = value_at(cell, min(index + i, n - 1u), unit);
            }
            for (var i = 0u; i < AHEAD; i++) {
                let weight = scores[(t + index + i - tile * KEYS) * SCORE_STRIDE + four];
                sums[0] += weight * v[i].low.x;
                sums[1] += weight * v[i].low.y;
                sums[2] += weight * v[i].low.z;
                sums[3] += weight * v[i].low.w;
                sums[4] += weight * v[i].high.x;
                sums[5] += weight * v[i].high.y;
                sums[6] += weight * v[i].high.z;
                sums[7] += weight * v[i].high.w;
            }
        }
    }
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let job = job_of(group);
    if job.span.n_tok == 0u {
        return;
    }
    load_query(job, thread);
    workgroupBarrier();

    let last = min(token_of(job, ROWS - 1u), job.span.n_tok - 1u);
    let end = job.span.position + last + 1u;
    let first_tile = seen_by(job, 0u).begin.x / KEYS;
    let n_tile = (end + KEYS - 1u) / KEYS - first_tile;
    let per_split = (n_tile + job.span.n_split - 1u) / job.span.n_split;
    let begin_tile = first_tile + min(n_tile, job.split * per_split);
    let end_tile = first_tile + min(n_tile, (job.split + 1u) * per_split);

    let seen = seen_by(job, thread % FOURS);
    let unit = thread % UNITS;
    let four = thread / UNITS;
    var softmax = Softmax(vec4(LOWEST), vec4(0.0));
    var sums: array<vec4<f32>, 8>;
    for (var tile = begin_tile; tile < end_tile; tile++) {
        score(job, tile, end, thread);
        softmax = weigh(softmax, seen, tile, thread);
        if four < FOURS {
            add_values(job, tile, end, four, unit, &sums);
        }
    }
    finish(job, softmax, sums, thread);
}

fn finish(job: Job, softmax: Softmax, sums: array<vec4<f32>, 8>, thread: u32) {
    workgroupBarrier();
    if thread < SHARES * FOURS {
        shares[thread] = softmax.sum;
    }
    if thread < FOURS {
        // Nobody shrinks any more.
        shrinks[thread] = softmax.largest;
    }
    workgroupBarrier();
    let unit = thread % UNITS;
    let four = thread / UNITS;
    if four >= FOURS {
        return;
    }
    var sum = shares[four];
    for (var s = 1u; s < SHARES; s++) {
        sum += shares[s * FOURS + four];
    }
    for (var w = 0u; w < 4u; w++) {
        let token = token_of(job, four * 4u + w);
        if token < job.span.n_tok {
            let head = head_of(job, four * 4u + w);
            for (var j = 0u; j < min(8u, HEAD - unit * 8u); j++) {
                write(job, token, head, unit * 8u + j, sums[j][w], shrinks[four][w], sum[w]);
            }
        }
    }
}

fn write(job: Job, token: u32, head: u32, d: u32, value: f32, largest: f32, sum: f32) {
    if job.span.n_split == 1u {
        var divisor = sum;
        if p.has_sinks == 1u {
            divisor += exp(sinks[head] - largest);
        }
        out[((job.span.token + token) * p.n_head + head) * HEAD + d] = value / divisor;
        return;
    }
    let part = (job.span.part + token * job.span.n_split + job.split) * p.n_head + head;
    parts[part * HEAD + d] = value;
    if d == 0u {
        parts[p.stats + 2u * part] = largest;
        parts[p.stats + 2u * part + 1u] = sum;
    }
}
