// All kernels, compiled together into one image.
#include "lloyd.cu"
#include "pairs.cu"
#include "stale.cu"
