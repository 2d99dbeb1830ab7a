// All kernels, compiled together into one image.
#include "halves.cu"
#include "lloyd.cu"
#include "moves.cu"
#include "pairs.cu"
#include "stale.cu"
