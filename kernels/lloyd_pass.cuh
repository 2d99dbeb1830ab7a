// What a Lloyd pass is told. The host writes these structures field by field (crates/cuda/src/lloyd.rs).
#pragma once
#include "device.cuh"

constexpr u32 NOWHERE = 0xffffffffu;
/// Sets of centroids of one launch.
constexpr u32 SETS_MAX = 24;

/// A row that changed its cluster.
struct Move {
    u32 row;
    u32 to;
    u32 from;  // NOWHERE if it was in none
};

/// One set of centroids.
struct LloydSet {
    const uint4* fragments;   // n_tiles x steps x 32 lanes: for lane (g, t) of centroid 8 tile + g, features 16 step + 4t ..
    const float* half_norms;  // n_tiles x 8, scaled; infinite where there is no centroid
    const float* centroids;   // n_clusters x n_features
    u16* labels;              // n_rows; null where nothing is remembered
    float* until;             // n_rows
    const u32* list;          // the rows to look at, if they are not too many; null for all
    const u32* n_listed;
    u32* unsure;              // blocks x room: the rows that the exact kernel has to look at; null for all
    u32* n_unsure;            // blocks
    Move* moves;              // blocks x room: the rows that changed their label
    u32* n_moves;             // blocks
    u32 n_clusters;
    u32 n_tiles;
    u32 shared_fragments;     // where they are in shared memory, in 16 bytes
    u32 shared_norms;         // in 4 bytes
    float lead_per_residual;  // a lead is certain if it is larger than this x |x - float16(x)|
    float lead_per_length;    // + this x |x|
    float lead_per_norm;      // + this x |x|^2
    float lead_min;           // + this, all of it scaled
    float way;                // where marks are counted from
    u32 is_filled;            // labels are those of an earlier pass
};

struct LloydPass {
    const float* rows;        // n_rows x stride
    const uint4* halves;      // n_rows x steps x 16 float16, as halves.cu lays them out
    const float2* lengths;    // n_rows
    u32 n_sets;               // that share a read of the rows; block y has those from y x n_sets on
    u32 n_rows;
    u32 stride;
    u32 n_features;
    u32 tiles_together;       // of a streamed set, in shared memory at a time
    u32 room;                 // rows of a block
    u32 listed_max;           // a longer list does not pay
    float scale;              // a power of two; float16 parts are of rows times this
    float per_scale;
    u32 padding;
    LloydSet sets[SETS_MAX];
};

static_assert(sizeof(LloydSet) == 128 && sizeof(LloydPass) == 64 + 128 * SETS_MAX, "the host has the same structures");
