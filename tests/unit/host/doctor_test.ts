import { assert, assertEquals } from "@std/assert";
import { examineLinux, type Machine } from "../../../lib/host/doctor.ts";
import type { Finding } from "../../../lib/host/mod.ts";
import { DRIVERS, fixture, FUNCTIONS, NET, PF } from "./fixture.ts";
import type { FakeFunction } from "./sysfs/memory_sysfs.ts";

const READY: Readonly<Record<string, string>> = {
  "/sys/class/iommu/dmar0/x": "",
  "/sys/kernel/debug/irq/domains/DMAR-MSI": "",
  "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "N\n",
  "/sys/module/vfio_pci/parameters/enable_sriov": "Y\n",
  "/sys/module/vfio_pci/parameters/disable_denylist": "N\n",
  "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "N\n",
  "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "16\n",
  "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "12\n",
  "/dev/vfio/512": "",
};

interface Given {
  readonly files?: Readonly<Record<string, string>>;
  readonly machine?: Partial<Machine>;
  readonly nodes?: readonly string[];
  readonly prepare?: (made: ReturnType<typeof fixture>) => void;
  readonly hasIommu?: boolean;
  readonly hasVfio?: boolean;
  readonly more?: readonly FakeFunction[];
}

function examine(given: Given = {}): Finding[] {
  const nodes = given.nodes ?? ["/dev/vfio/vfio", "/dev/iommu"];
  const machine: Machine = {
    readText: () => undefined,
    canOpen: () => true,
    exists: (path) => nodes.includes(path),
    effectiveUserId: () => 0,
    lockedMemoryBytes: () => 8 << 20,
    openFiles: () => 1024,
    ...given.machine,
  };
  using made = fixture({
    drivers: given.hasVfio === false ? DRIVERS.filter((one) => one.name !== "vfio-pci") : DRIVERS,
    functions: [
      ...(given.hasIommu === false ? FUNCTIONS.map((one) => ({ ...one, group: null })) : FUNCTIONS),
      ...given.more ?? [],
    ],
    parts: { examine: (host, attributes) => examineLinux(host, attributes, machine) },
  });
  for (const [path, text] of Object.entries({ ...READY, ...given.files })) {
    if (text !== "absent") made.sysfs.extra.set(path, text);
  }
  given.prepare?.(made);
  return made.host.examine();
}

function find(findings: readonly Finding[], what: string): Finding {
  const found = findings.find((one) => one.what === what);
  if (found === undefined) {
    throw new Error(`${what} is not among ${findings.map((one) => one.what).join(", ")}`);
  }
  return found;
}

Deno.test("doctor: nothing but ok on a host that is ready", () => {
  const findings = examine();
  assertEquals(findings.filter((one) => one.state !== "ok"), []);
  assertEquals(findings.filter((one) => one.mend !== undefined), []);
  assertEquals(find(findings, "hugepages").detail, "2048 KiB: 12 of 16 free");
  assert(find(findings, "SR-IOV").detail.includes(`${PF} (0 of 7 VFs)`));
});

Deno.test("1.8 doctor: no IOMMU, told apart by what the kernel was asked for", () => {
  const cpu = (text: string, commandLine: string) => (path: string) =>
    path === "/proc/cpuinfo" ? text : path === "/proc/cmdline" ? commandLine : undefined;
  const of = (readText: Machine["readText"]) =>
    find(examine({ hasIommu: false, machine: { readText } }), "IOMMU");
  const intel = of(cpu("vendor_id : GenuineIntel", "quiet"));
  assertEquals(intel.state, "problem");
  assert(intel.mend?.includes("intel_iommu=on"));
  assert(of(cpu("vendor_id : AuthenticAMD", "intel_iommu=off")).mend?.includes("amd_iommu=on"));
  const asked = of(cpu("vendor_id : GenuineIntel", "intel_iommu=on"));
  assert(
    asked.detail.includes("was asked") && asked.mend?.includes("firmware") && !asked.mend.includes("add "),
  );
});

Deno.test("doctor: on Arm it is the ITS that remaps interrupts", () => {
  const readText = (path: string) =>
    path === "/proc/cpuinfo" ? "processor\t: 0\nCPU implementer\t: 0x41\n" : undefined;
  const files = { "/sys/kernel/debug/irq/domains/DMAR-MSI": "absent" };
  const remapping = find(examine({ files, machine: { readText } }), "interrupt remapping");
  assert(remapping.mend?.includes("ITS") && !remapping.mend.includes("x2APIC"), remapping.mend);
  const its = find(
    examine({ files: { ...files, "/sys/kernel/debug/irq/domains/ITS-MSI-0": "" }, machine: { readText } }),
    "interrupt remapping",
  );
  assertEquals(its.state, "ok");
});

Deno.test("doctor: each thing that is missing, with the command that mends it", () => {
  const cases: { given: Given; what: string; state: Finding["state"]; mend: string }[] = [
    { given: { hasVfio: false }, what: "vfio-pci", state: "problem", mend: "modprobe vfio-pci" },
    {
      given: { nodes: ["/dev/vfio/vfio"] },
      what: "VFIO by cdev",
      state: "warning",
      mend: "modprobe iommufd",
    },
    { given: { nodes: ["/dev/iommu"] }, what: "VFIO by group", state: "warning", mend: "vfio_iommu_type1" },
    { given: { nodes: [] }, what: "VFIO by group", state: "problem", mend: "vfio_iommu_type1" },
    {
      given: { files: { "/sys/module/vfio_pci/parameters/enable_sriov": "N\n" } },
      what: "VFs of a PF on vfio-pci",
      state: "warning",
      mend: "echo 1 >",
    },
    {
      given: { files: { "/sys/module/vfio_pci/parameters/disable_denylist": "Y\n" } },
      what: "vfio-pci deny list",
      state: "warning",
      mend: "disable_denylist=0",
    },
    {
      given: { files: { "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "Y\n" } },
      what: "no-IOMMU mode",
      state: "warning",
      mend: "echo N >",
    },
    {
      given: { files: { "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "0\n" } },
      what: "hugepages",
      state: "warning",
      mend: "vm.nr_hugepages",
    },
    { given: { machine: { openFiles: () => 256 } }, what: "open files", state: "warning", mend: "ulimit -n" },
    {
      given: { machine: { effectiveUserId: () => 1000 } },
      what: "locked memory",
      state: "warning",
      mend: "ulimit -l",
    },
    { given: { machine: { effectiveUserId: () => 1000 } }, what: "user", state: "warning", mend: "root" },
    {
      given: { files: { "/sys/kernel/debug/irq/domains/DMAR-MSI": "absent" } },
      what: "interrupt remapping",
      state: "warning",
      mend: "firmware",
    },
    {
      given: { prepare: (made) => made.host.bind(NET), machine: { canOpen: () => false } },
      what: `access to ${NET}`,
      state: "problem",
      mend: "chown",
    },
    {
      given: { prepare: (made) => made.host.bind(NET) },
      what: "changes of earlier runs",
      state: "warning",
      mend: "ringside restore",
    },
  ];
  for (const { given, what, state, mend } of cases) {
    const found = find(examine(given), what);
    assertEquals(found.state, state, `${what}: ${found.detail}`);
    assert(found.mend?.includes(mend), `${what}: ${found.mend}`);
  }
});

Deno.test("doctor: a damaged journal is a problem, not a crash", () => {
  const found = find(examine({ prepare: (made) => (made.store.text = "x\n") }), "changes of earlier runs");
  assertEquals(found.state, "problem");
  assert(found.detail.includes("line 1"));
});

const MMIO: FakeFunction = {
  address: "a003e00.virtio_mmio",
  bus: "platform",
  device: 1,
  driver: "virtio-mmio",
  group: null,
};
const RESET_REQUIRED = "/sys/module/vfio_platform/parameters/reset_required";

Deno.test("doctor: of platform devices nothing is said on a host that lists none", () => {
  const what = examine({ files: { [RESET_REQUIRED]: "Y\n" } }).map((one) => one.what).join();
  assert(!what.includes("platform"), what);
});

Deno.test("doctor: what platform devices need: the driver, no wish for a reset function, an IOMMU or the mode without", () => {
  const bare = examine({ more: [MMIO], files: { [RESET_REQUIRED]: "Y\n" } });
  const of = (what: string) => find(bare, what);
  assertEquals([of("vfio-platform").state, of("vfio-platform").mend?.split(" (")[0]], [
    "warning",
    "modprobe vfio-platform",
  ]);
  assert(of("reset of platform devices").mend?.includes("reset_required=0"));
  assertEquals(of("IOMMU of platform devices").detail, `none in front of ${MMIO.address}`);
  assert(of("IOMMU of platform devices").mend?.includes("enable_unsafe_noiommu_mode"));
  const good = examine({
    more: [{ ...MMIO, group: 9 }],
    files: { [RESET_REQUIRED]: "N\n", "/sys/bus/platform/drivers/vfio-platform/bind": "" },
  });
  assertEquals(good.filter((one) => one.what.includes("platform")).map((one) => [one.what, one.state]), [
    ["vfio-platform", "ok"],
    ["IOMMU of platform devices", "ok"],
  ]);
});

Deno.test("doctor: access to a platform device's node is looked at as to a PCI function's", () => {
  const given = {
    more: [{ ...MMIO, group: 9, driver: "vfio-platform" }],
    files: { "/dev/vfio/noiommu-9": "" },
  };
  assertEquals(find(examine(given), `access to ${MMIO.address}`).detail, "/dev/vfio/noiommu-9");
  const closed = find(examine({ ...given, machine: { canOpen: () => false } }), `access to ${MMIO.address}`);
  assertEquals([closed.state, closed.mend], ["problem", "chown $USER /dev/vfio/noiommu-9"]);
});

Deno.test("doctor: on ARM no argument of the kernel's command line turns an IOMMU on", () => {
  const readText = (path: string) => path === "/proc/cpuinfo" ? "CPU implementer\t: 0x41" : undefined;
  const { mend } = find(examine({ hasIommu: false, machine: { readText } }), "IOMMU");
  assert(mend?.includes("SMMU") && !mend.includes("iommu=on"), mend);
});
