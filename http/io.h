#ifndef BULKHEAD_HTTP_IO_H
#define BULKHEAD_HTTP_IO_H

/*
 * io.h -- PRIVATE: bytes to and from a peer, in the clear or through TLS.
 *
 * Deadlines, contexts and the wait for readability belong to the connection below, io->conn.
 */

#include <stddef.h>
#include <sys/types.h>

#include <bulkhead/go/net.h>
#include <bulkhead/http/tls.h>

struct ht_io {
    struct bh_conn *conn;
    struct bh_tls  *tls; /* NULL: in the clear */
};

/* ht_io_read -- Returns: bytes, 0 at the end, or an error.  ht_io_try_read: -EAGAIN too. */
static inline ssize_t
ht_io_read(struct ht_io *io, void *buffer, size_t size)
{
    return io->tls != NULL ? bh_tls_read(io->tls, buffer, size)
                           : bh_read(io->conn, buffer, size);
}

static inline ssize_t
ht_io_try_read(struct ht_io *io, void *buffer, size_t size)
{
    return io->tls != NULL ? bh_tls_try_read(io->tls, buffer, size)
                           : bh_try_read(io->conn, buffer, size);
}

/* ht_io_write -- all of it.  Returns: size, or an error. */
static inline ssize_t
ht_io_write(struct ht_io *io, const void *data, size_t size)
{
    return io->tls != NULL ? bh_tls_write(io->tls, data, size) : bh_write(io->conn, data, size);
}

/* ht_io_pending -- bytes that are here already, which a wait for readability would miss. */
static inline size_t
ht_io_pending(struct ht_io *io)
{
    return io->tls != NULL ? bh_tls_pending(io->tls) : 0;
}

/* ht_io_end -- no more output: the peer sees the end of the stream. */
static inline int
ht_io_end(struct ht_io *io)
{
    if (io->tls != NULL)
        (void)bh_tls_shutdown(io->tls);
    return bh_conn_shutdown_write(io->conn);
}

static inline void
ht_io_free(struct ht_io *io)
{
    if (io->tls != NULL)
        bh_tls_free(io->tls);
    bh_conn_free(io->conn);
    io->tls = NULL;
    io->conn = NULL;
}

#endif
