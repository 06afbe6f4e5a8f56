import { assert, assertEquals } from "@std/assert";
import { express, sriov, vendorCapability } from "../../../lib/pci/capability_builder.ts";
import { buildConfigSpace } from "../../../lib/pci/config_builder.ts";
import { fill } from "../../../lib/pci/format/text.ts";
import { describeFunction, formatFunction, HEADER, PciAddress } from "../../../lib/pci/mod.ts";
import { configFrom, IGB } from "./fixtures.ts";

// The text that lspci 3.9 -vvv gives for the same bytes, with this library's shorter device names.
const IGB_TEXT = `
01:00.0 Ethernet controller: Intel Corporation 82576 Gigabit Network Connection (rev 01)
	Subsystem: Intel Corporation Device a03c
	Control: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx+
	Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-
	Latency: 0, Cache Line Size: 64 bytes
	Interrupt: pin A routed to IRQ 10
	Region 0: Memory at fbf20000 (32-bit, non-prefetchable)
	Region 1: Memory at fbf00000 (32-bit, non-prefetchable)
	Region 2: I/O ports at e000 [disabled]
	Region 3: Memory at 2fbf40000 (64-bit, prefetchable)
	Capabilities: [40] Power Management version 3
		Flags: PMEClk- DSI+ D1- D2- AuxCurrent=0mA PME(D0+,D1-,D2-,D3hot+,D3cold+)
		Status: D0 NoSoftRst- PME-Enable- DSel=0 DScale=1 PME-
	Capabilities: [50] MSI: Enable- Count=1/1 Maskable+ 64bit+
		Address: 0000000000000000  Data: 0000
		Masking: 00000000  Pending: 00000000
	Capabilities: [70] MSI-X: Enable+ Count=10 Masked-
		Vector table: BAR=3 offset=00000000
		PBA: BAR=3 offset=00002000
	Capabilities: [a0] Express (v2) Endpoint, MSI 00
		DevCap:	MaxPayload 512 bytes, PhantFunc 0, Latency L0s <512ns, L1 <64us
			ExtTag- AttnBtn- AttnInd- PwrInd- RBE+ FLReset+ SlotPowerLimit 0W
		DevCtl:	CorrErr+ NonFatalErr+ FatalErr+ UnsupReq-
			RlxdOrd+ ExtTag- PhantFunc- AuxPwr- NoSnoop+ FLReset-
			MaxPayload 256 bytes, MaxReadReq 512 bytes
		DevSta:	CorrErr+ NonFatalErr- FatalErr- UnsupReq+ AuxPwr- TransPend-
		LnkCap:	Port #0, Speed 2.5GT/s, Width x4, ASPM L0s L1, Exit Latency L0s <4us, L1 <64us
			ClockPM- Surprise- LLActRep- BwNot- ASPMOptComp+
		LnkCtl:	ASPM Disabled; RCB 64 bytes, Disabled- CommClk+
			ExtSynch- ClockPM- AutWidDis- BWInt- AutBWInt-
		LnkSta:	Speed 2.5GT/s, Width x4
			TrErr- Train- SlotClk+ DLActive- BWMgmt- ABWMgmt-
		DevCap2: Completion Timeout: Range ABCD, TimeoutDis+ NROPrPrP- LTR-
			 10BitTagComp- 10BitTagReq- OBFF Not Supported, ExtFmt- EETLPPrefix-
			 EmergencyPowerReduction Not Supported, EmergencyPowerReductionInit-
			 FRS- TPHComp- ExtTPHComp-
			 AtomicOpsCap: 32bit- 64bit- 128bitCAS-
		DevCtl2: Completion Timeout: 50us to 50ms, TimeoutDis- LTR- 10BitTagReq- OBFF Disabled,
			 AtomicOpsCtl: ReqEn-
		LnkCtl2: Target Link Speed: 2.5GT/s, EnterCompliance- SpeedDis-
			 Transmit Margin: Normal Operating Range, EnterModifiedCompliance- ComplianceSOS-
			 Compliance Preset/De-emphasis: -6dB de-emphasis, 0dB preshoot
		LnkSta2: Current De-emphasis Level: -6dB, EqualizationComplete- EqualizationPhase1-
			 EqualizationPhase2- EqualizationPhase3- LinkEqualizationRequest-
			 Retimer- 2Retimers- CrosslinkRes: unsupported
	Capabilities: [100 v1] Advanced Error Reporting
		UESta:	DLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt- UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq- ACSViol-
		UEMsk:	DLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt- UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq- ACSViol-
		UESvrt:	DLP+ SDES- TLP- FCP+ CmpltTO- CmpltAbrt- UnxCmplt- RxOF+ MalfTLP+ ECRC- UnsupReq- ACSViol+
		CESta:	RxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr-
		CEMsk:	RxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr+
		AERCap:	First Error Pointer: 00, ECRCGenCap+ ECRCGenEn- ECRCChkCap+ ECRCChkEn-
			MultHdrRecCap- MultHdrRecEn- TLPPfxPres- HdrLogCap-
		HeaderLog: 00000000 00000000 00000000 00000000
	Capabilities: [140 v1] Device Serial Number 00-1b-21-ff-ff-12-34-56
	Capabilities: [150 v1] Alternative Routing-ID Interpretation (ARI)
		ARICap:	MFVC- ACS-, Next Function: 1
		ARICtl:	MFVC- ACS-, Function Group: 0
	Capabilities: [160 v1] Single Root I/O Virtualization (SR-IOV)
		IOVCap:	Migration- 10BitTagReq- Interrupt Message Number: 000
		IOVCtl:	Enable+ Migration- Interrupt- MSE+ ARIHierarchy- 10BitTagReq-
		IOVSta:	Migration-
		Initial VFs: 8, Total VFs: 8, Number of VFs: 2, Function Dependency Link: 00
		VF offset: 128, stride: 2, Device ID: 10ca
		Supported Page Size: 00000553, System Page Size: 00000001
		Region 0: Memory at 00000002fbc00000 (64-bit, prefetchable)
		Region 3: Memory at 00000002fbc20000 (64-bit, prefetchable)
		VF Migration: offset: 00000000, BIR: 0`;

Deno.test("an igb-like PF prints line for line as lspci -vvv", () => {
  const lines = formatFunction(configFrom(4096, IGB), { address: PciAddress.parse("01:00.0") });
  assertEquals(lines, IGB_TEXT.trim().split("\n"));
});

Deno.test("known sizes, host facts and a domain are printed where lspci has them", () => {
  const lines = formatFunction(configFrom(4096, IGB), {
    address: PciAddress.parse("0002:01:00.0"),
    barSizes: [0x20000, 0x400000, 32, 0x4000],
    vfBarSizes: [0x4000],
    romBytes: 0x80000,
    host: { irq: 41, numaNode: 1, iommuGroup: 12, driver: "vfio-pci" },
  });
  for (
    const line of [
      "\tInterrupt: pin A routed to IRQ 41",
      "\tNUMA node: 1",
      "\tIOMMU group: 12",
      "\tRegion 0: Memory at fbf20000 (32-bit, non-prefetchable) [size=128K]",
      "\tRegion 2: I/O ports at e000 [disabled] [size=32]",
      "\tRegion 3: Memory at 2fbf40000 (64-bit, prefetchable) [size=16K]",
      "\tExpansion ROM at <unassigned> [disabled] [size=512K]",
      "\t\tRegion 0: Memory at 00000002fbc00000 (64-bit, prefetchable) [size=16K]",
    ]
  ) assert(lines.includes(line), line);
  assert(lines[0]!.startsWith("0002:01:00.0 Ethernet controller: "));
  assertEquals(lines.at(-1), "\tKernel driver in use: vfio-pci");
});

Deno.test("a VF BAR without an address prints its zeros, a BAR says <unassigned>, as lspci does", () => {
  const bar = { index: 0, sizeBytes: 0x4000, kind: "mem64", prefetchable: false } as const;
  const image = buildConfigSpace({
    vendorId: 0x8086,
    deviceId: 0x10c9,
    classCode: 0x020000,
    bars: [bar],
    capabilities: [express()],
    extendedCapabilities: [
      sriov({ totalVfs: 8, firstVfOffset: 128, vfStride: 2, vfDeviceId: 0x10ca, vfBars: [bar] }),
    ],
  });
  const regions = formatFunction(image.config).filter((line) => line.includes("Region 0"));
  assertEquals(regions, [
    "\tRegion 0: Memory at <unassigned> (64-bit, non-prefetchable) [disabled]",
    "\t\tRegion 0: Memory at 0000000000000000 (64-bit, non-prefetchable)",
  ]);
});

Deno.test("names: class, vendor or device unknown", () => {
  const title = (at: string, classCode: string) =>
    formatFunction(configFrom(64, { 0: at, 8: `00 ${classCode}` }))[0];
  assertEquals(title("f41a 9999", "000002"), "Ethernet controller: Red Hat, Inc. Device 9999");
  assertEquals(title("3412 7856", "000002"), "Ethernet controller: Device 1234:5678");
  assertEquals(title("3412 7856", "00eeff"), "Unassigned class [ffee]: Device 1234:5678");
  assertEquals(title("3412 7856", "010055"), "Class 5500: Device 1234:5678 (prog-if 01)");
  assertEquals(
    title("3412 7856", "020801"),
    "Non-Volatile memory controller: Device 1234:5678 (prog-if 02 [NVM Express])",
  );
});

Deno.test("2.1 virtio structures print their place, and unusable ones why they are ignored", () => {
  const image = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x1041,
    revisionId: 1,
    classCode: 0x020000,
    capabilities: [
      vendorCapability({
        kind: "virtio",
        structure: "notify",
        bar: 4,
        regionOffset: 0x3000,
        regionLength: 0x1000,
        notifyOffMultiplier: 4,
      }),
      vendorCapability({
        kind: "virtio",
        structure: "sharedMemory",
        bar: 2,
        structureId: 3,
        regionLength: 2 ** 30,
      }),
    ],
  });
  const lines = formatFunction(image.config).slice(-4);
  assertEquals(lines, [
    "\tCapabilities: [40] Vendor Specific Information: VirtIO: Notify",
    "\t\tBAR=4 offset=00003000 size=00001000 multiplier=00000004",
    "\tCapabilities: [54] Vendor Specific Information: VirtIO: SharedMemory",
    "\t\tBAR=2 offset=00000000 size=40000000 id=3",
  ]);
  image.set(0x57, 1, 77);
  assertEquals(formatFunction(image.config).slice(-3), [
    "\tCapabilities: [54] Vendor Specific Information: VirtIO: <unknown>",
    "\t\tBAR=2 offset=00000000 size=40000000",
    "\t\t<ignored: cfg_type 77 is reserved>",
  ]);
});

Deno.test("faults in a list are printed in lspci's words, with their place", () => {
  const last = (at: Record<number, string>, size = 256) =>
    formatFunction(configFrom(size, { 0: "8680 3412 0000 1000", 0x34: "40", ...at })).at(-1);
  assertEquals(last({ 0x40: "0c40" }), "\tCapabilities: <chain looped> at 41: the list comes back to 0x40");
  assertEquals(
    last({ 0x40: "0c10" }),
    "\tCapabilities: <chain broken> at 41: pointer 0x10 is inside the header",
  );
  assertEquals(last({}, 64), "\tCapabilities: <access denied> at 40: only the first 64 bytes are readable");
  assertEquals(
    last({ 0x34: "fc", 0xfc: "11000000" }),
    "\tCapabilities: [fc] MSI-X <malformed: its 12 bytes do not fit: 4 are left>",
  );
});

Deno.test("a function that is gone says so, and names its driver", () => {
  const gone = configFrom(256, { 0: "ff".repeat(256) });
  assertEquals(formatFunction(gone, { address: PciAddress.parse("01:00.0"), host: { driver: "igb" } }), [
    "01:00.0 Unassigned class [ffff]: Device ffff:ffff (rev ff) (prog-if ff)",
    "\t!!! Gone: it reads as all ones. It was removed, has no power, or the link to it is down",
    "\tKernel driver in use: igb",
  ]);
  assertEquals(describeFunction(gone).gone, true);
  assertEquals("gone" in describeFunction(configFrom(4096, IGB)), false);
});

Deno.test("a header type that is reserved, and a class that does not go with it", () => {
  const second = (header: string, classCode: string, host = {}) =>
    formatFunction(configFrom(64, { 0: "8680 3412", 8: `00 ${classCode}`, 0x0e: header }), { host }).slice(1);
  assertEquals(second("05", "000002", { driver: "x" }), [
    "\t!!! Unknown header type 05",
    "\tKernel driver in use: x",
  ]);
  assertEquals(second("01", "000002")[0], "\t!!! Invalid class 0200 for header type 01");
  assertEquals(second("00", "000406")[0], "\t!!! Invalid class 0604 for header type 00");
  assert(second("00", "000006").every((line) => !line.includes("!!!")), "a host bridge has type 0");
});

Deno.test("a CardBus bridge of 128 bytes prints its windows, control and the ports of the 16-bit interface", () => {
  const lines = formatFunction(configFrom(128, {
    0x00: "4c10 31ac 0300 1002 00 00 07 06 00 00 02 00",
    0x14: "a0 00 0040 00 05 08 b0",
    0x1c: "00000020 00f0ff21 00000000 00000000",
    0x2c: "01400000 fc400000 00500000 fc500000",
    0x3e: "4301",
    0x40: "cf10 1614 0104",
  }));
  assertEquals(lines.slice(4), [
    "\tBus: primary=00, secondary=05, subordinate=08, sec-latency=176",
    "\tMemory window 0: 20000000-21ffffff (prefetchable)",
    "\tMemory window 1: 00000000-00000fff",
    "\tI/O window 0: 00004000-000040ff",
    "\tI/O window 1: 00005000-000050ff",
    "\tSecondary status: SERR",
    "\tBridgeCtl: Parity+ SERR+ ISA- VGA- MAbort- >Reset+ 16bInt- PostWrite-",
    "\t16-bit legacy interface ports at 0401",
    "\tCapabilities: <access denied> at a0: only the first 128 bytes are readable",
  ]);
});

Deno.test("what a short space cuts says how much there is of it", () => {
  const config = configFrom(0xa0, {
    0: "8680 3412 0000 1000",
    0x34: "40",
    0x40: "0198 0300",
    0x98: "1100 0300",
  });
  const lines = formatFunction(config).slice(-4);
  assertEquals(lines[0], "\tCapabilities: [40] Power Management version 3");
  assertEquals(lines.at(-1), "\tCapabilities: [98] MSI-X <cut: 8 of its 12 bytes are readable>");
  const [, cut] = describeFunction(config).capabilities as Record<string, unknown>[];
  assertEquals([cut!.kind, cut!.neededBytes, cut!.data], ["cut", 12, "1100030000000000"]);
});

Deno.test("a bridge prints its buses, windows and subsystem", () => {
  const lines = formatFunction(configFrom(256, {
    0x00: "361b 0c00 0701 1000 00 00 04 06 00 00 01 00",
    0x18: "00 01 02 00 f1 01 0000 f0ff 0000 01fe f1fe",
    0x34: "40",
    0x40: "0d00 0000 361b 0100",
  }));
  assertEquals(lines.slice(1, 2), ["\tSubsystem: Red Hat, Inc. Device 0001"]);
  assertEquals(lines.slice(5, 9), [
    "\tBus: primary=00, secondary=01, subordinate=02, sec-latency=0",
    "\tI/O behind bridge: 0000f000-00000fff [disabled] [32-bit]",
    "\tMemory behind bridge: fff00000-000fffff [disabled] [32-bit]",
    "\tPrefetchable memory behind bridge: 00000000fe000000-00000000feffffff [size=16M] [64-bit]",
  ]);
});

Deno.test("the JSON form is plain data with hexadecimal text where people expect it", () => {
  const description = describeFunction(configFrom(4096, IGB), { address: PciAddress.parse("01:00.0") });
  const parsed = JSON.parse(JSON.stringify(description));
  assertEquals(parsed, description, "nothing is lost on the way through JSON");
  assertEquals([parsed.address, parsed.vendorId, parsed.deviceId], ["0000:01:00.0", "0x8086", "0x10c9"]);
  assertEquals([parsed.class, parsed.device], ["Ethernet controller", "82576 Gigabit Network Connection"]);
  assertEquals([parsed.command.raw, parsed.command.busMaster], ["0x406", true]);
  assertEquals(parsed.bars[3].address, "0x2fbf40000");
  const sriov = parsed.capabilities.find((cap: { kind: string }) => cap.kind === "sr-iov");
  assertEquals([sriov.offset, sriov.totalVfs, sriov.vfDeviceId], ["0x160", 8, "0x10ca"]);
  const msix = parsed.capabilities.find((cap: { kind: string }) => cap.kind === "msi-x");
  assertEquals([msix.vectorCount, msix.pendingBits], [10, { bar: 3, offset: "0x2000" }]);
});

Deno.test("a line is filled by label, by field, and in digits; what no register has shows", () => {
  const status = { ...configFrom(64, { 0x06: "1082" }).status, raw: 0 };
  assertEquals(fill("Cap± UDF±, <PERR±", {}, HEADER.status, status), "Cap+ UDF-, <PERR+");
  assertEquals(
    fill("{capabilitiesList} {deviceSelectTiming} {deviceSelectTiming:2}", {}, HEADER.status, status),
    "+ 1 01",
  );
  assertEquals(fill("{name} {table.offset:3}", { name: "x", table: { offset: 16n } }), "x 010");
  assertEquals(fill("Nothing±", {}, HEADER.status, status), "Nothing?");
});
