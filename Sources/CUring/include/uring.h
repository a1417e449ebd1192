/* liburing, and the inline helpers Swift needs because they are macros or flexible members in C. */
#pragma once

/* liburing.h defines _GNU_SOURCE, Swift's Glibc module is built without it: fd_set's member would then have two
 * names and clean debug builds fail. Giving sys/select.h the plain view first keeps one name. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <features.h>
#undef __USE_XOPEN
#include <sys/select.h>
#define __USE_XOPEN 1

#include "ublk_abi.h"

/* swift-system's C module also defines these structures, from <linux/io_uring.h>, which spells some members
 * differently from liburing's copy; Swift refuses two spellings of one name. So ours have other names. */
#define io_uring_sqe uring_sqe
#define io_uring_buf_ring uring_buf_ring
#define io_uring_buf_reg uring_buf_reg
#include <liburing.h>
#undef io_uring_sqe
#undef io_uring_buf_ring
#undef io_uring_buf_reg
#include <string.h>

/* Setup flags newer than Debian 12's liburing are not needed; these two are enums or macros of it. */
static const uint32_t URING_SETUP_QUEUE_FLAGS =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN;
static const uint32_t URING_SETUP_COOP_FLAGS = IORING_SETUP_COOP_TASKRUN;
static const uint32_t URING_SETUP_CONTROL_FLAGS = IORING_SETUP_SQE128;

static inline unsigned uring_cq_head(const struct io_uring *ring) { return *ring->cq.khead; }
static inline unsigned uring_cq_tail(const struct io_uring *ring) { return io_uring_smp_load_acquire(ring->cq.ktail); }

/* For rings without CQE32. */
static inline const struct io_uring_cqe *uring_cqe_at(const struct io_uring *ring, unsigned position) {
    return &ring->cq.cqes[position & ring->cq.ring_mask];
}

static inline void uring_use_fixed_file(struct uring_sqe *sqe) { sqe->flags |= IOSQE_FIXED_FILE; }

/* A success is not told, only a failure. */
static inline void uring_skip_success(struct uring_sqe *sqe) { sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; }

/* Makes a read or write one of the kernel's pages in the ring's buffer table, from their byte offset on. */
static inline void uring_use_registered_buffer(struct uring_sqe *sqe, uint16_t index, uint64_t offset) {
    sqe->opcode = sqe->opcode == IORING_OP_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    sqe->buf_index = index;
    sqe->addr = offset;
}

/* One command for a tag on registered file 0 (the ublkc device). Fills all of a 64-byte SQE. buffer is the addr of
 * struct ublk_io_cmd, registration what ublk_auto_buf_reg() says, or 0. */
static inline void uring_prep_ublk_io(struct uring_sqe *sqe, uint32_t code, uint16_t queue, uint16_t tag,
    int32_t result, uint64_t buffer, uint64_t registration) {
    memset(sqe, 0, 64);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->cmd_op = code;
    sqe->addr = registration;
    struct ublk_io_cmd command = {.q_id = queue, .tag = tag, .result = result, .addr = buffer};
    memcpy(sqe->cmd, &command, sizeof command);
}

/* One command for many tags on registered file 0: PREP or COMMIT. */
static inline void uring_prep_ublk_batch(struct uring_sqe *sqe, uint32_t code, uint16_t queue,
    const struct ublk_batch_element *elements, uint16_t count) {
    memset(sqe, 0, 64);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->cmd_op = code;
    sqe->addr = (uint64_t)(uintptr_t)elements;
    struct ublk_batch_io command = {
        .q_id = queue, .flags = UBLK_BATCH_F_HAS_BUF_ADDR, .nr_elem = count, .elem_bytes = sizeof *elements};
    memcpy(sqe->cmd, &command, sizeof command);
}

/* The command that brings tags, into buffers of a group. liburing of Debian 12 does not know the flag. */
static inline void uring_prep_ublk_batch_fetch(struct uring_sqe *sqe, uint16_t queue, uint16_t group) {
    memset(sqe, 0, 64);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->cmd_op = UBLK_IO_FETCH_IO_CMDS;
    sqe->rw_flags = 1 << 1; /* IORING_URING_CMD_MULTISHOT */
    sqe->buf_group = group;
    struct ublk_batch_io command = {.q_id = queue, .elem_bytes = sizeof(uint16_t)};
    memcpy(sqe->cmd, &command, sizeof command);
}

/* ---- buffers that the kernel chooses from: a ring of them in our memory, one ring for each group ---- */

static const uint32_t URING_CQE_MORE = IORING_CQE_F_MORE;     /* the command goes on */
static const uint32_t URING_CQE_BUFFER = IORING_CQE_F_BUFFER; /* a buffer was chosen */
static inline uint16_t uring_cqe_buffer(uint32_t flags) { return (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT); }

/* memory: whole pages of zeroes, 16 bytes for each entry; entries: a power of two. 0 or a negative errno. */
static inline int uring_register_buffer_ring(struct io_uring *ring, void *memory, uint32_t entries, uint16_t group) {
    struct uring_buf_reg request = {
        .ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = entries, .bgid = group};
    return io_uring_register_buf_ring(ring, &request, 0);
}

/* Gives one buffer to the kernel. */
static inline void uring_give_buffer(void *memory, uint32_t entries, void *buffer, uint32_t bytes, uint16_t index) {
    struct uring_buf_ring *ring = (struct uring_buf_ring *)memory;
    io_uring_buf_ring_add(ring, buffer, bytes, index, (int)entries - 1, 0);
    io_uring_buf_ring_advance(ring, 1);
}

/* One control command. Fills all of a 128-byte SQE. */
static inline void uring_prep_ublk_control(
    struct uring_sqe *sqe, int fd, uint32_t code, const struct ublk_ctrl_cmd *command) {
    memset(sqe, 0, 128);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fd;
    sqe->cmd_op = code;
    memcpy(sqe->cmd, command, sizeof *command);
}
