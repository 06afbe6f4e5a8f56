/**
 * Registers of the PCI Express capability (PCIe 6.0 §7.5.3; kernel header `linux/pci_regs.h`). Access is that of an
 * endpoint.
 *
 * @module
 */

import type { RegisterTable } from "../../registers/declaration.ts";

/** The registers that all have. Access is that of an endpoint. */
export const EXPRESS_REGISTERS = {
  /** PCI Express Capabilities. */
  capabilities: {
    offset: 0x02,
    width: 2,
    fields: {
      version: { bits: [3, 0], access: "RO" },
      deviceType: { bits: [7, 4], access: "RO" },
      slotImplemented: { bits: 8, access: "HwInit", label: "Slot" },
      interruptMessageNumber: { bits: [13, 9], access: "RO" },
      flitModeSupported: { bits: 15, access: "HwInit", label: "FLIT" },
    },
  },
  /** Device Capabilities. */
  deviceCapabilities: {
    offset: 0x04,
    width: 4,
    fields: {
      maxPayloadSupported: { bits: [2, 0], access: "RO" },
      phantomFunctions: { bits: [4, 3], access: "RO" },
      extendedTag: { bits: 5, access: "RO", label: "ExtTag" },
      l0sAcceptableLatency: { bits: [8, 6], access: "RO" },
      l1AcceptableLatency: { bits: [11, 9], access: "RO" },
      attentionButton: { bits: 12, access: "RO", label: "AttnBtn" },
      attentionIndicator: { bits: 13, access: "RO", label: "AttnInd" },
      powerIndicator: { bits: 14, access: "RO", label: "PwrInd" },
      roleBasedErrorReporting: { bits: 15, access: "RO", label: "RBE" },
      slotPowerLimitValue: { bits: [25, 18], access: "RO" },
      slotPowerLimitScale: { bits: [27, 26], access: "RO" },
      functionLevelReset: { bits: 28, access: "RO", label: "FLReset" },
      teeIo: { bits: 30, access: "HwInit", label: "TEE-IO" },
    },
  },
  /** Device Control. */
  deviceControl: {
    offset: 0x08,
    width: 2,
    fields: {
      correctableErrorReporting: { bits: 0, access: "RW", label: "CorrErr" },
      nonFatalErrorReporting: { bits: 1, access: "RW", label: "NonFatalErr" },
      fatalErrorReporting: { bits: 2, access: "RW", label: "FatalErr" },
      unsupportedRequestReporting: { bits: 3, access: "RW", label: "UnsupReq" },
      relaxedOrdering: { bits: 4, access: "RW", label: "RlxdOrd" },
      maxPayload: { bits: [7, 5], access: "RW" },
      extendedTag: { bits: 8, access: "RW", label: "ExtTag" },
      phantomFunctions: { bits: 9, access: "RW", label: "PhantFunc" },
      auxiliaryPower: { bits: 10, access: "RWS", label: "AuxPwr" },
      noSnoop: { bits: 11, access: "RW", label: "NoSnoop" },
      maxReadRequest: { bits: [14, 12], access: "RW" },
      initiateFunctionLevelReset: { bits: 15, access: "RWZ", label: "FLReset" },
    },
  },
  /** Device Status. */
  deviceStatus: {
    offset: 0x0a,
    width: 2,
    fields: {
      correctableError: { bits: 0, access: "RW1C", label: "CorrErr" },
      nonFatalError: { bits: 1, access: "RW1C", label: "NonFatalErr" },
      fatalError: { bits: 2, access: "RW1C", label: "FatalErr" },
      unsupportedRequest: { bits: 3, access: "RW1C", label: "UnsupReq" },
      auxiliaryPower: { bits: 4, access: "RO", label: "AuxPwr" },
      transactionsPending: { bits: 5, access: "RO", label: "TransPend" },
      emergencyPowerReduction: { bits: 6, access: "RW1C", label: "EmergPwrRed" },
    },
  },
} as const satisfies RegisterTable;

/** Link registers, which functions that are integrated into the root complex lack. */
export const EXPRESS_LINK = {
  /** Link Capabilities. */
  capabilities: {
    offset: 0x0c,
    width: 4,
    fields: {
      maxSpeed: { bits: [3, 0], access: "RO" },
      maxWidth: { bits: [9, 4], access: "RO" },
      aspmSupport: { bits: [11, 10], access: "RO" },
      l0sExitLatency: { bits: [14, 12], access: "RO" },
      l1ExitLatency: { bits: [17, 15], access: "RO" },
      clockPowerManagement: { bits: 18, access: "RO", label: "ClockPM" },
      surpriseDown: { bits: 19, access: "RO", label: "Surprise" },
      linkActiveReporting: { bits: 20, access: "RO", label: "LLActRep" },
      bandwidthNotification: { bits: 21, access: "RO", label: "BwNot" },
      aspmOptionalityCompliance: { bits: 22, access: "HwInit", label: "ASPMOptComp" },
      portNumber: { bits: [31, 24], access: "HwInit" },
    },
  },
  /** Link Control. */
  control: {
    offset: 0x10,
    width: 2,
    fields: {
      aspmControl: { bits: [1, 0], access: "RW" },
      readCompletionBoundary128: { bits: 3, access: "RW", label: "RCB" },
      linkDisable: { bits: 4, access: "RO", label: "Disabled" },
      retrainLink: { bits: 5, access: "RO", label: "Retrain" },
      commonClock: { bits: 6, access: "RW", label: "CommClk" },
      extendedSynch: { bits: 7, access: "RW", label: "ExtSynch" },
      clockPowerManagement: { bits: 8, access: "RW", label: "ClockPM" },
      autonomousWidthDisable: { bits: 9, access: "RO", label: "AutWidDis" },
      bandwidthInterrupt: { bits: 10, access: "RO", label: "BWInt" },
      autonomousBandwidthInterrupt: { bits: 11, access: "RO", label: "AutBWInt" },
    },
  },
  /** Link Status. */
  status: {
    offset: 0x12,
    width: 2,
    fields: {
      speed: { bits: [3, 0], access: "RO" },
      width: { bits: [9, 4], access: "RO" },
      trainingError: { bits: 10, access: "RO", label: "TrErr" },
      training: { bits: 11, access: "RO", label: "Train" },
      slotClock: { bits: 12, access: "HwInit", label: "SlotClk" },
      linkActive: { bits: 13, access: "RO", label: "DLActive" },
      bandwidthManagement: { bits: 14, access: "RO", label: "BWMgmt" },
      autonomousBandwidth: { bits: 15, access: "RO", label: "ABWMgmt" },
    },
  },
} as const satisfies RegisterTable;

/** Slot registers of a port with a slot behind it. */
export const EXPRESS_SLOT = {
  /** Slot Capabilities. */
  capabilities: {
    offset: 0x14,
    width: 4,
    fields: {
      attentionButton: { bits: 0, access: "HwInit", label: "AttnBtn" },
      powerController: { bits: 1, access: "HwInit", label: "PwrCtrl" },
      mrlSensor: { bits: 2, access: "HwInit", label: "MRL" },
      attentionIndicator: { bits: 3, access: "HwInit", label: "AttnInd" },
      powerIndicator: { bits: 4, access: "HwInit", label: "PwrInd" },
      hotPlugSurprise: { bits: 5, access: "HwInit", label: "Surprise" },
      hotPlugCapable: { bits: 6, access: "HwInit", label: "HotPlug" },
      powerLimitValue: { bits: [14, 7], access: "HwInit" },
      powerLimitScale: { bits: [16, 15], access: "HwInit" },
      interlock: { bits: 17, access: "HwInit", label: "Interlock" },
      noCommandCompleted: { bits: 18, access: "HwInit", label: "NoCompl" },
      slotNumber: { bits: [31, 19], access: "HwInit" },
    },
  },
  /** Slot Control. */
  control: {
    offset: 0x18,
    width: 2,
    fields: {
      attentionButtonEnable: { bits: 0, access: "RW", label: "AttnBtn" },
      powerFaultEnable: { bits: 1, access: "RW", label: "PwrFlt" },
      mrlSensorEnable: { bits: 2, access: "RW", label: "MRL" },
      presenceDetectEnable: { bits: 3, access: "RW", label: "PresDet" },
      commandCompletedEnable: { bits: 4, access: "RW", label: "CmdCplt" },
      hotPlugInterruptEnable: { bits: 5, access: "RW", label: "HPIrq" },
      attentionIndicator: { bits: [7, 6], access: "RW" },
      powerIndicator: { bits: [9, 8], access: "RW" },
      powerControllerOff: { bits: 10, access: "RW", label: "Power" },
      interlock: { bits: 11, access: "RW", label: "Interlock" },
      linkStateEnable: { bits: 12, access: "RW", label: "LinkChg" },
    },
  },
  /** Slot Status. */
  status: {
    offset: 0x1a,
    width: 2,
    fields: {
      attentionButton: { bits: 0, access: "RW1C", label: "AttnBtn" },
      powerFault: { bits: 1, access: "RW1C", label: "PowerFlt" },
      mrlSensorChanged: { bits: 2, access: "RW1C", label: "MRL" },
      presenceDetectChanged: { bits: 3, access: "RW1C", label: "PresDet" },
      commandCompleted: { bits: 4, access: "RW1C", label: "CmdCplt" },
      mrlSensorState: { bits: 5, access: "RO", label: "MRL" },
      presenceDetect: { bits: 6, access: "RO", label: "PresDet" },
      interlock: { bits: 7, access: "RO", label: "Interlock" },
      linkStateChanged: { bits: 8, access: "RW1C", label: "LinkState" },
    },
  },
} as const satisfies RegisterTable;

/** Root registers of root ports and event collectors. */
export const EXPRESS_ROOT = {
  /** Root Control. */
  control: {
    offset: 0x1c,
    width: 2,
    fields: {
      correctableError: { bits: 0, access: "RW", label: "ErrCorrectable" },
      nonFatalError: { bits: 1, access: "RW", label: "ErrNon-Fatal" },
      fatalError: { bits: 2, access: "RW", label: "ErrFatal" },
      pmeInterrupt: { bits: 3, access: "RW", label: "PMEIntEna" },
      crsVisible: { bits: 4, access: "RW", label: "CRSVisible" },
    },
  },
  /** Root Capabilities. */
  capabilities: {
    offset: 0x1e,
    width: 2,
    fields: { crsVisible: { bits: 0, access: "RO", label: "CRSVisible" } },
  },
  /** Root Status. */
  status: {
    offset: 0x20,
    width: 4,
    fields: {
      pmeRequesterId: { bits: [15, 0], access: "RO" },
      pmeStatus: { bits: 16, access: "RW1C", label: "PMEStatus" },
      pmePending: { bits: 17, access: "RO", label: "PMEPending" },
    },
  },
} as const satisfies RegisterTable;

/** The second set of device registers, from version 2 on. */
export const EXPRESS_DEVICE_2 = {
  /** Device Capabilities 2. */
  capabilities: {
    offset: 0x24,
    width: 4,
    fields: {
      completionTimeoutRanges: { bits: [3, 0], access: "HwInit" },
      completionTimeoutDisable: { bits: 4, access: "RO", label: "TimeoutDis" },
      ariForwarding: { bits: 5, access: "RO", label: "ARIFwd" },
      atomicOpRouting: { bits: 6, access: "RO", label: "Routing" },
      atomicOp32: { bits: 7, access: "RO", label: "32bit" },
      atomicOp64: { bits: 8, access: "RO", label: "64bit" },
      cas128: { bits: 9, access: "RO", label: "128bitCAS" },
      noRoEnabledPrPrPassing: { bits: 10, access: "HwInit", label: "NROPrPrP" },
      ltr: { bits: 11, access: "RO", label: "LTR" },
      tphCompleter: { bits: [13, 12], access: "RO" },
      lnSystemCls: { bits: [15, 14], access: "HwInit" },
      tag10BitCompleter: { bits: 16, access: "HwInit", label: "10BitTagComp" },
      tag10BitRequester: { bits: 17, access: "HwInit", label: "10BitTagReq" },
      obff: { bits: [19, 18], access: "HwInit" },
      extendedFmt: { bits: 20, access: "RO", label: "ExtFmt" },
      endToEndTlpPrefix: { bits: 21, access: "HwInit", label: "EETLPPrefix" },
      maxEndToEndTlpPrefixes: { bits: [23, 22], access: "HwInit" },
      emergencyPowerReduction: { bits: [25, 24], access: "HwInit" },
      emergencyPowerReductionInit: { bits: 26, access: "HwInit", label: "EmergencyPowerReductionInit" },
      frs: { bits: 31, access: "HwInit", label: "FRS" },
    },
  },
  /** Device Control 2. */
  control: {
    offset: 0x28,
    width: 2,
    fields: {
      completionTimeout: { bits: [3, 0], access: "RW" },
      completionTimeoutDisable: { bits: 4, access: "RW", label: "TimeoutDis" },
      ariForwarding: { bits: 5, access: "RW", label: "ARIFwd" },
      atomicOpRequester: { bits: 6, access: "RW", label: "ReqEn" },
      atomicOpEgressBlocking: { bits: 7, access: "RW", label: "EgressBlck" },
      idoRequest: { bits: 8, access: "RW", label: "IDOReq" },
      idoCompletion: { bits: 9, access: "RW", label: "IDOCompl" },
      ltr: { bits: 10, access: "RW", label: "LTR" },
      emergencyPowerReduction: { bits: 11, access: "RW", label: "EmergencyPowerReductionReq" },
      tag10BitRequester: { bits: 12, access: "RW", label: "10BitTagReq" },
      obff: { bits: [14, 13], access: "RW" },
      endToEndTlpPrefixBlocking: { bits: 15, access: "RW", label: "EETLPPrefixBlk" },
    },
  },
} as const satisfies RegisterTable;

/** The second set of link registers, from version 2 on. Link Capabilities 2 is reserved, and so 0, before PCIe 3.0. */
export const EXPRESS_LINK_2 = {
  /** Link Capabilities 2. */
  capabilities: {
    offset: 0x2c,
    width: 4,
    fields: {
      supportedSpeeds: { bits: [7, 1], access: "HwInit" },
      crosslink: { bits: 8, access: "RO", label: "Crosslink" },
      retimer: { bits: 23, access: "HwInit", label: "Retimer" },
      twoRetimers: { bits: 24, access: "HwInit", label: "2Retimers" },
      drs: { bits: 31, access: "HwInit", label: "DRS" },
    },
  },
  /** Link Control 2. */
  control: {
    offset: 0x30,
    width: 2,
    fields: {
      targetSpeed: { bits: [3, 0], access: "RWS" },
      enterCompliance: { bits: 4, access: "RWS", label: "EnterCompliance" },
      autonomousSpeedDisable: { bits: 5, access: "RWS", label: "SpeedDis" },
      selectableDeEmphasis: { bits: 6, access: "HwInit" },
      transmitMargin: { bits: [9, 7], access: "RWS" },
      enterModifiedCompliance: { bits: 10, access: "RWS", label: "EnterModifiedCompliance" },
      complianceSos: { bits: 11, access: "RWS", label: "ComplianceSOS" },
      compliancePreset: { bits: [15, 12], access: "RWS" },
    },
  },
  /** Link Status 2. */
  status: {
    offset: 0x32,
    width: 2,
    fields: {
      currentDeEmphasis: { bits: 0, access: "RO" },
      equalizationComplete: { bits: 1, access: "ROS", label: "EqualizationComplete" },
      equalizationPhase1: { bits: 2, access: "ROS", label: "EqualizationPhase1" },
      equalizationPhase2: { bits: 3, access: "ROS", label: "EqualizationPhase2" },
      equalizationPhase3: { bits: 4, access: "ROS", label: "EqualizationPhase3" },
      linkEqualizationRequest: { bits: 5, access: "RW1C", label: "LinkEqualizationRequest" },
      retimer: { bits: 6, access: "ROS", label: "Retimer" },
      twoRetimers: { bits: 7, access: "ROS", label: "2Retimers" },
      crosslinkResolution: { bits: [9, 8], access: "RO" },
      flitMode: { bits: 10, access: "RO", label: "FltMode" },
      downstreamComponent: { bits: [14, 12], access: "RO" },
      drsReceived: { bits: 15, access: "RW1C", label: "DRS" },
    },
  },
} as const satisfies RegisterTable;
