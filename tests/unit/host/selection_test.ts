import { assertEquals, assertThrows } from "@std/assert";
import { NotFoundError, UsageError } from "../../../lib/errors/mod.ts";
import { type FunctionPattern, selectFunctions } from "../../../lib/host/selection.ts";
import { BARE, BRIDGE, DISK, fixture, NET, PF, VF0, VF1 } from "./fixture.ts";

Deno.test("functions by what they are: all that is given holds, and one of several ids", () => {
  using made = fixture();
  const of = (pattern: FunctionPattern, ...names: string[]) =>
    selectFunctions(made.host, names, pattern).map((one) => one.address);
  assertEquals(of({ ids: [{ vendorId: 0x1af4 }] }), [NET]);
  assertEquals(of({ ids: [{ deviceId: 0x10c9 }, { vendorId: 0x1af4, deviceId: 0x1041 }] }), [PF, NET]);
  assertEquals(of({ classDigits: "01" }), [DISK]);
  assertEquals(of({ classDigits: "0106" }), [DISK]);
  assertEquals(of({ classDigits: "0604" }), [BRIDGE]);
  assertEquals(of({ driver: "igb" }), [PF]);
  assertEquals(of({ driver: "" }), [BARE]);
  assertEquals(of({ driver: "igb", ids: [{ deviceId: 0x10c9 }] }), [PF]);
  const group = made.host.describe(NET).iommuGroup!;
  assertEquals(of({ group }), [NET]);
  // What is named comes first, and once.
  assertEquals(of({ ids: [{ deviceId: 0x10c9 }] }, "eth0", "01:00.0"), [NET, PF]);
  assertEquals(of({}, NET, "eth0"), [NET]);
  made.host.setVfCount(PF, 2);
  assertEquals(of({ driver: "igbvf" }), [VF0, VF1]);
});

Deno.test("a choice that no function fits says what was asked for", () => {
  using made = fixture();
  const none = (pattern: FunctionPattern) => {
    const { message } = assertThrows(() => selectFunctions(made.host, [], pattern), NotFoundError);
    return message;
  };
  assertEquals(
    none({ ids: [{ vendorId: 0x8086 }, { deviceId: 0xf00d }], classDigits: "02", driver: "ice", group: 7 }),
    "no function of memory has the ids 8086: or :f00d and class 02 and driver ice and IOMMU group 7",
  );
  assertThrows(() => selectFunctions(made.host, []), UsageError, "no function is named");
  assertThrows(() => selectFunctions(made.host, ["77:00.0"], { driver: "igb" }), NotFoundError);
});
