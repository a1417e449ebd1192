/* The ublk driver's ABI, kernels 6.12 to 7.3, written down here because distribution headers are older
 * than the drivers they run on. Only what this program uses. Facts: UAPI linux/ublk_cmd.h, drivers/block/ublk_drv.c.
 * Never include <linux/ublk_cmd.h> beside it. */
#pragma once
#include <stdint.h>

/* ---- control commands: IORING_OP_URING_CMD with a 128-byte SQE on /dev/ublk-control ---- */

/* Payload of each control command, at byte 48 of the SQE. */
struct ublk_ctrl_cmd {
    uint32_t dev_id;   /* UINT32_MAX with ADD_DEV: the driver picks one */
    uint16_t queue_id; /* 0xFFFF except where a command says otherwise */
    uint16_t len;      /* bytes at addr */
    uint64_t addr;     /* in or out buffer */
    uint64_t data;     /* one inline argument */
    uint16_t dev_path_len; /* unprivileged devices only */
    uint16_t pad;
    uint32_t reserved;
};
_Static_assert(sizeof(struct ublk_ctrl_cmd) == 32, "UAPI: ublksrv_ctrl_cmd");

/* ioctl-style codes: direction << 30 | size of payload << 16 | 'u' << 8 | number. */
#define UBLK_CODE(direction, size, number) \
    (((uint32_t)(direction) << 30) | ((uint32_t)(size) << 16) | ((uint32_t)'u' << 8) | (uint32_t)(number))
#define UBLK_CODE_READ 2u
#define UBLK_CODE_READ_WRITE 3u

static const uint32_t UBLK_CMD_GET_QUEUE_AFFINITY = UBLK_CODE(UBLK_CODE_READ, 32, 0x01);
static const uint32_t UBLK_CMD_GET_DEV_INFO = UBLK_CODE(UBLK_CODE_READ, 32, 0x02);
static const uint32_t UBLK_CMD_ADD_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x04);
static const uint32_t UBLK_CMD_DEL_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x05);
static const uint32_t UBLK_CMD_DEL_DEV_ASYNC = UBLK_CODE(UBLK_CODE_READ, 32, 0x14);
static const uint32_t UBLK_CMD_START_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x06);
static const uint32_t UBLK_CMD_STOP_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x07);
static const uint32_t UBLK_CMD_SET_PARAMS = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x08);
static const uint32_t UBLK_CMD_GET_PARAMS = UBLK_CODE(UBLK_CODE_READ, 32, 0x09);
static const uint32_t UBLK_CMD_START_USER_RECOVERY = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x10);
static const uint32_t UBLK_CMD_END_USER_RECOVERY = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x11);
static const uint32_t UBLK_CMD_GET_DEV_INFO2 = UBLK_CODE(UBLK_CODE_READ, 32, 0x12);
static const uint32_t UBLK_CMD_GET_FEATURES = UBLK_CODE(UBLK_CODE_READ, 32, 0x13);
static const uint32_t UBLK_CMD_UPDATE_SIZE = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x15); /* from 6.16 */
static const uint32_t UBLK_CMD_QUIESCE_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x16); /* from 6.16 */
static const uint32_t UBLK_CMD_TRY_STOP_DEV = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x17); /* from 7.0 */
static const uint32_t UBLK_CMD_REG_BUF = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x18);     /* from 7.1 */
static const uint32_t UBLK_CMD_UNREG_BUF = UBLK_CODE(UBLK_CODE_READ_WRITE, 32, 0x19);   /* from 7.1 */

struct ublk_dev_info {
    uint16_t nr_hw_queues;
    uint16_t queue_depth;
    uint16_t state; /* enum ublk_dev_state */
    uint16_t io_desc_size; /* of the mapped descriptors, with UBLK_F_IO_DESC_SIZE (7.3); padding before, 0 then */
    uint32_t max_io_buf_bytes;
    uint32_t dev_id;
    int32_t ublksrv_pid;
    uint32_t pad1;
    uint64_t flags; /* UBLK_F_*, as negotiated */
    uint64_t ublksrv_flags; /* the server's own, kept by the driver */
    uint32_t owner_uid;
    uint32_t owner_gid;
    uint64_t reserved1;
    uint64_t reserved2;
};
_Static_assert(sizeof(struct ublk_dev_info) == 64, "UAPI: ublksrv_ctrl_dev_info");

enum ublk_dev_state { UBLK_STATE_DEAD = 0, UBLK_STATE_LIVE = 1, UBLK_STATE_QUIESCED = 2, UBLK_STATE_FAIL_IO = 3 };

/* ---- device parameters: SET_PARAMS before START_DEV ---- */

enum ublk_param_type {
    UBLK_PARAM_BASIC = 1 << 0,
    UBLK_PARAM_DISCARD = 1 << 1,
    UBLK_PARAM_DEVT = 1 << 2, /* answered by GET_PARAMS, never set */
};

enum ublk_attr {
    UBLK_ATTR_READ_ONLY = 1 << 0,
    UBLK_ATTR_ROTATIONAL = 1 << 1,
    UBLK_ATTR_VOLATILE_CACHE = 1 << 2,
    UBLK_ATTR_FUA = 1 << 3,
};

struct ublk_param_basic {
    uint32_t attrs;
    uint8_t logical_bs_shift;
    uint8_t physical_bs_shift;
    uint8_t io_opt_shift;
    uint8_t io_min_shift;
    uint32_t max_sectors;
    uint32_t chunk_sectors;
    uint64_t dev_sectors;
    uint64_t virt_boundary_mask;
};

struct ublk_param_discard {
    uint32_t discard_alignment;
    uint32_t discard_granularity; /* bytes, not 0 even when only write zeroes is offered */
    uint32_t max_discard_sectors;
    uint32_t max_write_zeroes_sectors;
    uint16_t max_discard_segments; /* 1 when discard is offered */
    uint16_t reserved0;
};

struct ublk_param_devt {
    uint32_t char_major;
    uint32_t char_minor;
    uint32_t disk_major;
    uint32_t disk_minor;
};

/* The first members of the kernel's structure, as 6.12 has it; later kernels take any len. */
struct ublk_params {
    uint32_t len;
    uint32_t types; /* enum ublk_param_type */
    struct ublk_param_basic basic;
    struct ublk_param_discard discard;
    struct ublk_param_devt devt;
    uint32_t zoned[8]; /* the zoned parameters' place, unused */
};
_Static_assert(sizeof(struct ublk_param_basic) == 32, "UAPI: ublk_param_basic");
_Static_assert(sizeof(struct ublk_param_discard) == 20, "UAPI: ublk_param_discard");
_Static_assert(__builtin_offsetof(struct ublk_params, discard) == 40, "UAPI: ublk_params.discard");
_Static_assert(__builtin_offsetof(struct ublk_params, devt) == 60, "UAPI: ublk_params.devt");
_Static_assert(sizeof(struct ublk_params) == 112, "UAPI: ublk_params of 6.12");

/* ---- io commands: IORING_OP_URING_CMD with a 64-byte SQE on /dev/ublkcN ---- */

static const uint32_t UBLK_IO_FETCH_REQ = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x20);
static const uint32_t UBLK_IO_COMMIT_AND_FETCH_REQ = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x21);

/* With UBLK_F_NEED_GET_DATA the FETCH or COMMIT of a tag ends with this when a write came; NEED_GET_DATA then says
 * where its data is to go, and ends with 0 when it is there. No other command is taken before. */
enum { UBLK_IO_RES_NEED_GET_DATA = 1 };
static const uint32_t UBLK_IO_NEED_GET_DATA = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x22);

/* Payload of each io command, at byte 48 of the SQE. */
struct ublk_io_cmd {
    uint16_t q_id;
    uint16_t tag;
    int32_t result; /* COMMIT: bytes or negative errno */
    uint64_t addr;  /* where the driver copies: READ data of this request, and the buffer of the next one; else 0 */
};
_Static_assert(sizeof(struct ublk_io_cmd) == 16, "UAPI: ublksrv_io_cmd");

/* What the driver writes for each request, in the read-only mapping of /dev/ublkcN. One begins io_desc_size bytes after
 * the last. */
struct ublk_io_desc {
    uint32_t op_flags; /* low 8 bits: operation; the rest: UBLK_IO_F_*, not shifted */
    uint32_t nr_sectors;
    uint64_t start_sector; /* 512-byte sectors; meaningless for a flush */
    uint64_t addr;
};
_Static_assert(sizeof(struct ublk_io_desc) == 24, "UAPI: ublksrv_io_desc");

enum { UBLK_MAX_QUEUE_DEPTH = 4096 };

/* ---- pages of requests in the buffer table of a ring, with UBLK_F_SUPPORT_ZERO_COPY, from 6.15 ---- */

/* Put the pages of the request in a tag into the table, at the index in addr, and take them out again; the request ends
 * once it is committed and its pages are taken out. */
static const uint32_t UBLK_IO_REGISTER_IO_BUF = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x23);
static const uint32_t UBLK_IO_UNREGISTER_IO_BUF = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x24);

/* The same by the driver itself, with UBLK_F_AUTO_BUF_REG, from 6.16. In sqe->addr of FETCH and COMMIT: where it puts
 * the pages of the tag's next request. With the flag a request whose pages it cannot put there comes all the same,
 * marked UBLK_IO_F_NEED_REG_BUF. */
enum { UBLK_AUTO_BUF_REG_FALLBACK = 1 };
static inline uint64_t ublk_auto_buf_reg(uint16_t index) {
    return (uint64_t)UBLK_AUTO_BUF_REG_FALLBACK << 16 | index;
}

/* ---- memory that programs and the server share, with UBLK_F_SHMEM_ZC, from 7.1 ---- */

/* Payload of REG_BUF, which answers the buffer's number. UNREG_BUF takes that number. */
struct ublk_shared_buffer {
    uint64_t addr;     /* whole pages of the caller's own mapping */
    uint64_t len;      /* bytes, at most 4 GiB */
    uint32_t flags;    /* 1: for writes only */
    uint32_t reserved;
};
_Static_assert(sizeof(struct ublk_shared_buffer) == 24, "UAPI: ublk_shmem_buf_reg");

/* The addr of a request marked UBLK_IO_F_SHMEM_ZC: in which buffer its data is, and where. */
static inline uint16_t ublk_shared_number(uint64_t addr) { return (uint16_t)(addr >> 32); }
static inline uint32_t ublk_shared_offset(uint64_t addr) { return (uint32_t)addr; }

/* ---- many tags with one command, instead of the commands above, with UBLK_F_BATCH_IO, from 7.0 ---- */

/* PREP, once: every tag is the driver's. COMMIT: results of tags, which are the driver's again; ends with the bytes of
 * elements that it took. Both are carried out while they are sent. FETCH stays, and each of its completions is a
 * number of bytes: tags, 2 bytes each, in a buffer of the group that the command names. It ends for good with -ENODEV,
 * and with -ENOBUFS when all buffers were full. */
static const uint32_t UBLK_IO_PREP_IO_CMDS = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x25);
static const uint32_t UBLK_IO_COMMIT_IO_CMDS = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x26);
static const uint32_t UBLK_IO_FETCH_IO_CMDS = UBLK_CODE(UBLK_CODE_READ_WRITE, 16, 0x27);

/* Payload of each of them, at byte 48 of the SQE; the elements are at sqe->addr. */
struct ublk_batch_io {
    uint16_t q_id;
    uint16_t flags; /* UBLK_BATCH_F_* of the elements; 0 with FETCH */
    uint16_t nr_elem;
    uint8_t elem_bytes; /* with FETCH 2, the size of a tag */
    uint8_t reserved;
    uint64_t reserved2;
};
_Static_assert(sizeof(struct ublk_batch_io) == 16, "UAPI: ublk_batch_io");

/* Elements have an address, as they must where the driver copies. */
enum { UBLK_BATCH_F_HAS_BUF_ADDR = 1 << 1 };

struct ublk_batch_element {
    uint16_t tag;
    uint16_t buf_index; /* unused */
    int32_t result;     /* COMMIT: bytes or negative errno */
    uint64_t addr;      /* as in struct ublk_io_cmd */
};
_Static_assert(sizeof(struct ublk_batch_element) == 16, "UAPI: ublk_elem_header and an address");

/* Tags that one completion of a FETCH brings at most. */
enum { UBLK_BATCH_MAX_TAGS = 128 };

/* ---- data, with UBLK_F_USER_COPY: pread of a write's and pwrite of a read's on /dev/ublkcN, from 6.5 ---- */

/* Where the data of the request in a tag begins; it has 2^25 bytes of room. */
static inline int64_t ublk_data_position(uint16_t queue, uint16_t tag) {
    return 0x80000000 + ((int64_t)queue << 41) + ((int64_t)tag << 25);
}
