/// The queues of a simulated device, for those who have something done to it.
struct SimulatedQueues: AdministeredDevice {
    let queues: [QueueControl]
    var budgetNanoseconds: UInt64 { 0 }

    func answer(_ request: ServerRequest) -> AdminAnswer {
        let text =
            switch request {
            case .statistics: "stats: a server has them; \"rule\" tells how often each rule acted"
            default: "that is for a device that runs"
            }
        return .refused(AdminRefusal(text))
    }
}
