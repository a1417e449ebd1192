/// One bit of ``Features``, as people read of it.
///
/// Source: UAPI `ublk_cmd.h`, and in which release each bit came with it.
struct Feature: Sendable, Equatable {
    /// C spelling without `UBLK_F_`.
    let name: String
    /// The first kernel that has it.
    let since: String
    /// What it is for.
    let purpose: String

    private init(_ name: String, _ since: String, _ purpose: String) {
        self.name = name
        self.since = since
        self.purpose = purpose
    }

    /// By bit, lowest first.
    static let all = [
        Feature(
            "SUPPORT_ZERO_COPY",
            "6.15",
            "the server does IO on the pages of a request, and never sees its data"
        ),
        Feature(
            "URING_CMD_COMP_IN_TASK",
            "6.0",
            "the driver hands requests over in the server's own task; always on"
        ),
        Feature(
            "NEED_GET_DATA",
            "6.0",
            "a write is announced first; the server says where its data is to go"
        ),
        Feature(
            "USER_RECOVERY",
            "6.1",
            "the device outlives its server; IO waits for the next one"
        ),
        Feature(
            "USER_RECOVERY_REISSUE",
            "6.1",
            "the next server gets again what the dead one had not answered"
        ),
        Feature("UNPRIVILEGED_DEV", "6.3", "a user without root adds and serves his own device"),
        Feature("CMD_IOCTL_ENCODE", "6.4", "commands are ioctl codes; always on"),
        Feature(
            "USER_COPY",
            "6.5",
            "the server copies data itself, by pread and pwrite on /dev/ublkcN"
        ),
        Feature(
            "ZONED",
            "6.6",
            "a zoned device: report, open, close, finish, append and reset of zones"
        ),
        Feature(
            "USER_RECOVERY_FAIL_IO",
            "6.13",
            "as USER_RECOVERY, but IO fails while there is no server"
        ),
        Feature("UPDATE_SIZE", "6.16", "the size of a device that runs can be changed"),
        Feature(
            "AUTO_BUF_REG",
            "6.16",
            "the driver registers a request's pages with the server's ring itself"
        ),
        Feature("QUIESCE", "6.16", "the server can be replaced without an IO error"),
        Feature("PER_IO_DAEMON", "6.16", "each tag of a queue may have a thread of its own"),
        Feature(
            "BUF_REG_OFF_DAEMON",
            "6.17",
            "any thread of the server may register a request's pages"
        ),
        Feature("BATCH_IO", "7.0", "one command fetches or commits many tags, from any thread"),
        Feature("INTEGRITY", "7.0", "metadata and protection information (PI) beside the data"),
        Feature("SAFE_STOP_DEV", "7.0", "a stop that is refused while somebody has the disk open"),
        Feature("NO_AUTO_PART_SCAN", "7.0", "START_DEV leaves the partition table alone"),
        Feature("SHMEM_ZC", "7.1", "programs and the server share memory; IO in it needs no copy"),
        Feature("IO_DESC_SIZE", "7.3", "the server says how large the io descriptors are"),
    ]
}
