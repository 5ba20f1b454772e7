// Cuts each expert's list into tiles of `height` rows: for each tile its expert, where it begins in the lists, and its
// rows. Tiles beyond the last have none.
struct Params { n_expert: u32, height: u32, n_tile: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> lists: array<u32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) thread: u32) {
    var tile = 0u;
    for (var e = 0u; e < p.n_expert; e++) {
        let begin = lists[e];
        let end = lists[e + 1u];
        let n = (end - begin + p.height - 1u) / p.height;
        for (var i = thread; i < n; i += SIZE) {
            let row = begin + i * p.height;
            tiles[tile + i] = vec4<u32>(e, row, min(p.height, end - row), 0u);
        }
        tile += n;
    }
    for (var i = tile + thread; i < p.n_tile; i += SIZE) {
        tiles[i] = vec4<u32>(0u);
    }
}
