import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { errnoNumber, SyscallError } from "../../../../ffi/mod.ts";
import { RingsideError, UnsupportedError } from "../../../../lib/errors/mod.ts";
import { sriovRefusal } from "../../../../lib/host/changes/sriov_refusal.ts";
import { DRIVERS, fixture, FUNCTIONS, PF } from "../fixture.ts";

const refused = (driver: string, errno: string, count = 8, log?: readonly string[]): RingsideError => {
  const cause = new SyscallError("write", "/sys/…/sriov_numvfs", errnoNumber[errno]!);
  const error = sriovRefusal(cause, { address: PF, driver, count, log });
  if (!(error instanceof RingsideError)) throw new Error(`${driver} ${errno} says nothing`);
  assertEquals(error.cause, cause);
  return error;
};

/** What the errno of each driver means, in its words; what the same errno of another driver means is another row. */
const MEANINGS: readonly (readonly [driver: string, errno: string, what: string, mend: string])[] = [
  ["ice", "ENOSPC", "too few MSI-X vectors or queue pairs", "fewer VFs"],
  ["mlx5_core", "ENOSPC", "vectors, queues, memory windows or bus numbers", "fewer VFs"],
  ["ice", "ENOMEM", "no room for the VFs in the bus numbers or memory windows", "pci=realloc"],
  ["e1000e", "ENOENT", "has no way to set the VF count", "vfio-pci"],
  ["vfio-pci", "ENOENT", "only when it is told to", "enable_sriov"],
  ["i40e", "EPERM", "no resources for so many VFs", "fewer VFs"],
  ["ixgbe", "EPERM", "63 VFs at most", "fewer VFs"],
  ["nvme", "EPERM", "assigned to virtual machines", "take them from"],
  ["i40e", "EINVAL", "assigned to virtual machines", "take them from"],
  ["virtio-pci", "EINVAL", "VIRTIO_F_SR_IOV", "vfio-pci"],
  ["virtio-pci", "EBUSY", "the driver of the PF's device is not up", "virtio_net"],
  ["ice", "EBUSY", "not ready", "ask again"],
  ["igb", "EBUSY", "in use by another process", "end that one"],
  ["i40e", "EAGAIN", "in the middle of another operation", "ask again"],
  ["ice", "ENOTSUP", "safe or recovery mode", "intel/ice/ddp"],
  ["bnxt_en", "ENOTSUP", "SR-IOV turned off", "firmware"],
  ["ice", "EIO", "too few vectors or queues", "fewer VFs"],
];

Deno.test("VF count: what an errno can mean for the driver that gave it", () => {
  for (const [driver, errno, what, mend] of MEANINGS) {
    const { message, hint } = refused(driver, errno);
    assert(message.startsWith(`${PF}: ${driver} did not make 8 VFs (${errno}): `), message);
    assertStringIncludes(message, what);
    assertStringIncludes(hint, mend);
    assertStringIncludes(hint, `dmesg | grep ${PF}`);
  }
});

Deno.test("VF count: what the kernel said stands in place of where to look", () => {
  const { hint } = refused("ice", "ENOSPC", 8, ["Only 3 MSI-X interrupts available for SR-IOV"]);
  assertStringIncludes(hint, "the kernel says: Only 3 MSI-X interrupts available for SR-IOV");
  assert(!hint.includes("dmesg"));
  assertStringIncludes(refused("igb", "EPERM", 0).message, "did not remove its VFs (EPERM)");
  assertStringIncludes(refused("igb", "EPERM", 1).message, "did not make 1 VF (EPERM)");
});

Deno.test("VF count: an errno that says nothing here is told as it is", () => {
  const cause = new SyscallError("write", "numvfs", errnoNumber["ERANGE"]!);
  assertEquals(sriovRefusal(cause, { address: PF, driver: "igb", count: 1, log: [] }), cause);
});

Deno.test("VF count: a PF on its own driver that cannot is not told to bind it to its own driver", () => {
  using made = fixture({
    drivers: DRIVERS.map((one) => (one.name === "igb" ? { ...one, sriov: false } : one)),
    parts: {
      kernelLog: () => ({
        linesAbout: (address) => [`${address}: driver does not support SR-IOV configuration via sysfs`],
        [Symbol.dispose]: () => {},
      }),
    },
  });
  const error = assertThrows(
    () => made.host.setVfCount(PF, 1),
    UnsupportedError,
    "igb did not make 1 VF (ENOENT): the driver has no way to set the VF count",
  );
  assertStringIncludes(error.hint, "give the PF to a driver that has, such as vfio-pci");
  assertStringIncludes(error.hint, "driver does not support SR-IOV configuration via sysfs");
  assertEquals(made.host.journal(), []);
});

Deno.test("VF count: a driver that takes the count and makes fewer, as bnxt does with its interface down: the kernel says why", () => {
  using made = fixture({
    functions: FUNCTIONS,
    drivers: DRIVERS.map((one) => (one.name === "igb" ? { ...one, maxVfs: 0 } : one)),
    parts: {
      kernelLog: () => ({
        linesAbout: () => ["Reject SRIOV config request since if is down!"],
        [Symbol.dispose]: () => {},
      }),
    },
  });
  const error = assertThrows(() => made.host.setVfCount(PF, 2), UnsupportedError, "enabled 0 of 2 VFs");
  assertStringIncludes(error.hint, "the kernel says: Reject SRIOV config request since if is down!");
});
