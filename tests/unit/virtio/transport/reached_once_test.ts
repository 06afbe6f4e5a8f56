import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { RefusedError, UnsupportedError } from "../../../../lib/errors/mod.ts";
import { reachedOnce } from "../../../../lib/virtio/transport/reached_once.ts";
import type { VirtioTransport } from "../../../../lib/virtio/transport/transport.ts";

class Fake {
  readonly kind = "pci-modern";
  closed = false;
}

function fake(): VirtioTransport & { closed: boolean } {
  return new Fake() as unknown as VirtioTransport & { closed: boolean };
}

Deno.test("a device has one transport at a time; the second is refused, and says which is there", () => {
  const device = { name: "0000:01:00.0" };
  const first = reachedOnce(device, fake);
  const error = assertThrows(
    () => reachedOnce(device, () => assertEquals("opened", "not") as never),
    RefusedError,
  );
  assertStringIncludes(error.message, "0000:01:00.0 is reached already, by a transport of kind pci-modern");
  // Another opened function of the same name is another device.
  reachedOnce({ ...device }, fake);
  first.closed = true;
  reachedOnce(device, fake);
});

Deno.test("a transport that did not come about keeps no other away", () => {
  const device = { name: "0000:01:00.0" };
  const refuse = (): never => {
    throw new UnsupportedError("no virtio function");
  };
  assertThrows(() => reachedOnce(device, refuse), UnsupportedError);
  reachedOnce(device, fake);
});
