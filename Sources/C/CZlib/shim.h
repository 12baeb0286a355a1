#include <zlib.h>

/* A macro in zlib.h. 15 + 16: gzip headers and trailers, whose checksums are checked, and nothing else. */
static inline int chunkmesh_inflate_init_gzip(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
