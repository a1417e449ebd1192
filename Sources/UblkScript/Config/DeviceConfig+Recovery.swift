// `recovery`: what becomes of the device and its IO when its server dies.

extension DeviceConfig {
    /// What becomes of the device and its IO when its server dies.
    enum Recovery: String, Sendable, CaseIterable {
        /// The disk goes, and IO fails.
        case off
        /// IO under way fails; new IO waits for the next server.
        case wait
        /// IO under way and new IO wait for the next server.
        case reissue
        /// IO fails until the next server.
        case fail
    }

    /// Reads `recovery`.
    mutating func readRecovery(_ settings: [String: Setting]) throws(ConfigError) {
        guard let setting = settings["recovery"] else { return }
        let word = try setting.choice(Recovery.allCases.map(\.rawValue))
        recovery = Recovery(rawValue: word) ?? .off
    }
}

extension DeviceConfig.Recovery {
    /// The flags of the driver that make it so.
    var features: Features {
        switch self {
        case .off: []
        case .wait: [.userRecovery]
        case .reissue: [.userRecovery, .userRecoveryReissue]
        case .fail: [.userRecovery, .userRecoveryFailIO]
        }
    }

    /// What the driver calls the device once it has noticed that the server is dead.
    var stateWithoutServer: DeviceState {
        switch self {
        case .off: .dead
        case .wait, .reissue: .quiesced
        case .fail: .failIO
        }
    }

    /// What a device with those flags was added with.
    init(_ features: Features) {
        self =
            Self.allCases.last { $0 != .off && features.isSuperset(of: $0.features) } ?? .off
    }
}
