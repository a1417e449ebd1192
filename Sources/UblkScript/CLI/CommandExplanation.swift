extension TraceStep.Kind {
    /// What a command for `/dev/ublk-control` does, for somebody who learns the protocol; nil for a step of a queue.
    var commandExplanation: String? {
        switch self {
        case .getFeatures:
            "GET_FEATURES asks the driver which flags it knows; it is about no device."
        case .addDevice:
            """
            ADD_DEV makes a device: the number of its queues, how many requests each may have at once (tags), the \
            largest request, and flags. The driver makes /dev/ublkcN, and answers with what it grants: flags that it does \
            not know are gone, and there is at most a queue for each CPU. There is no disk yet.
            """
        case .setParams:
            """
            SET_PARAMS tells the limits of the disk. BASIC has its size, block sizes (powers of two), the largest IO and \
            attributes; DISCARD, and some more, are there when they are wanted. It is refused once there is a disk.
            """
        case .getParams:
            "GET_PARAMS reads the parameters back: a driver drops types that it does not know."
        case .getDeviceInfo, .getDeviceInfo2:
            "GET_DEV_INFO asks for what ADD_DEV has granted, for the state of the device and for the process that serves it."
        case .getQueueAffinity:
            "GET_QUEUE_AFFINITY tells which CPUs give their requests to a queue. The server's thread of the queue runs there."
        case .startDevice:
            """
            START_DEV waits until each tag of each queue was fetched (FETCH_REQ), and makes the disk, /dev/ublkbN. It says \
            which process serves it. The kernel reads the partition table now, so the queues have to work already.
            """
        case .stopDevice:
            """
            STOP_DEV takes the disk away. It waits until what is to be written back was written, and until the server has \
            answered each request; then the tags come back, aborted.
            """
        case .tryStopDevice:
            "TRY_STOP_DEV is STOP_DEV that is refused while somebody has the disk open."
        case .deleteDevice:
            "DEL_DEV_ASYNC deletes the device, and does not wait for those who have its disk open."
        case .deleteDeviceAndWait:
            "DEL_DEV deletes the device, and waits for those who have its disk open."
        case .startRecovery:
            "START_USER_RECOVERY readies a device whose server died for the next one, which then opens /dev/ublkcN."
        case .endRecovery:
            """
            END_USER_RECOVERY waits until the new server has fetched each tag, and gives it the disk with the requests that \
            waited.
            """
        case .updateSize:
            "UPDATE_SIZE gives a disk that is in use another size; who uses it is told."
        case .quiesceDevice:
            "QUIESCE_DEV has the driver give the server nothing more, so that another server can take over without an error."
        case .registerBuffer:
            """
            REG_BUF tells the driver of memory that programs share with the server. The pages stay where they are, and a \
            request whose data is there comes with its place in that memory, and is not copied.
            """
        case .unregisterBuffer: "UNREG_BUF has the driver let go of such memory."
        default: nil
        }
    }
}
