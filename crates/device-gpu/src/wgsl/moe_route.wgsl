// Scores of experts, the k best of them, and their weights: one token per workgroup. An expert's place among the chosen
// is the number of experts before it, which its thread counts: no rounds, and no thread waits for another. The order is
// one of whole numbers, so that every place is taken by one expert whatever the logits are.
struct Params { n_expert: u32, stride: u32, k: u32, sigmoid: u32, normalised: u32, biased: u32, scale: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> weights: array<f32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
// Added to the scores where experts are chosen, not where they are weighed.
@group(0) @binding(3) var<storage, read> bias: array<f32>;

var<workgroup> scores: array<f32, EXPERTS>;
var<workgroup> orders: array<u32, EXPERTS>;
var<workgroup> chosen: array<f32, EXPERTS>;

fn score_all(token: u32, thread: u32) {
    let begin = token * p.stride;
    var largest = -3.4e38;
    if p.sigmoid == 0u {
        for (var e = 0u; e < p.n_expert; e++) {
            largest = max(largest, logits[begin + e]);
        }
    }
    for (var e = thread; e < p.n_expert; e += SIZE) {
        let logit = logits[begin + e];
        let sigmoid = 1.0 / (1.0 + exp(min(-logit, 80.0)));
        scores[e] = select(exp(logit - largest), sigmoid, p.sigmoid != 0u);
    }
    workgroupBarrier();
    var total = 1.0;
    if p.sigmoid == 0u {
        total = 0.0;
        for (var e = 0u; e < p.n_expert; e++) {
            total += scores[e];
        }
    }
    workgroupBarrier();
    for (var e = thread; e < p.n_expert; e += SIZE) {
        let score = scores[e] / total;
        scores[e] = score;
        var ranked = score;
        if p.biased != 0u {
            ranked += bias[e];
        }
        orders[e] = order(bitcast<u32>(ranked));
    }
    workgroupBarrier();
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = group.x;
    score_all(token, thread);
    for (var e = thread; e < p.n_expert; e += SIZE) {
        let mine = orders[e];
        var place = 0u;
        for (var other = 0u; other < p.n_expert; other++) {
            let theirs = orders[other];
            place += u32(theirs > mine || (theirs == mine && other < e));
        }
        if place < p.k {
            ids[token * p.k + place] = e;
            chosen[place] = scores[e];
        }
    }
    workgroupBarrier();
    var total = 1.0;
    if p.normalised != 0u {
        total = 0.0;
        for (var i = 0u; i < p.k; i++) {
            total += chosen[i];
        }
        // All may have gone below what f32 can hold.
        total = max(total, 1e-20);
    }
    for (var i = thread; i < p.k; i += SIZE) {
        weights[token * p.k + i] = chosen[i] / total * p.scale;
    }
}
