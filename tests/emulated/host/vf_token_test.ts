/** VF tokens on an embedded host: what a user of real functions meets (`vfio_pci_validate_vf_token`), by library and command line. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { RefusedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { DEVICE_FEATURE } from "../../../lib/vfio/device.ts";
import { requirePciDevice } from "../../../lib/vfio/pci_device.ts";
import { cli } from "../cli/run_cli.ts";
import { ServedHost } from "./served_host.ts";

const PF = "0000:01:00.0", RNG = "0000:02:00.0";
const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const OTHER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

Deno.test("a VF opens with the token that its PF was opened with or set to, and with no other, nor without", async () => {
  await using served = await ServedHost.start();
  using host = served.connect();
  host.bind(PF);
  const [vf = "", second = ""] = host.setVfCount(PF, 2);
  // Before one is set there is none to be shown.
  host.open(vf).close();
  assertThrows(() => host.open(vf, { vfToken: TOKEN }), RefusedError, "the VF token is not the one");
  {
    using pf = requirePciDevice(host.open(PF, { vfToken: TOKEN }), "VF token");
    const missing = assertThrows(
      () => host.open(vf),
      RefusedError,
      `${vf} was not opened: a VF token is needed`,
    );
    assertStringIncludes(missing.hint, "--vf-token");
    assertThrows(() => host.open(vf, { vfToken: OTHER }), RefusedError, "the VF token is not the one");
    using device = host.open(vf, { vfToken: TOKEN.toUpperCase() });
    assertEquals(device.name, vf);
    assertEquals(
      [undefined, "set", "get"].map((way) =>
        pf.probeFeature(DEVICE_FEATURE.pciVfToken, way as "set" | "get" | undefined)
      ),
      [true, true, false],
    );
    pf.setVfToken(OTHER);
    assertThrows(() => host.open(second, { vfToken: TOKEN }), RefusedError);
    host.open(second, { vfToken: OTHER }).close();
    assertThrows(
      () => requirePciDevice(device, "VF token").setVfToken(TOKEN),
      UnsupportedError,
      "takes no VF token",
    );
  }
  // The kernel keeps it when the PF is closed, and asks for it while a VF is used.
  assertThrows(() => host.open(vf), RefusedError);
  {
    using _vf = host.open(vf, { vfToken: OTHER });
    assertThrows(() => host.open(PF), RefusedError, "a VF token is needed");
    assertThrows(() => host.open(PF, { vfToken: TOKEN }), RefusedError, "not the one");
    host.open(PF, { vfToken: OTHER }).close();
  }
  host.open(PF, { vfToken: TOKEN }).close();
  host.open(vf, { vfToken: TOKEN }).close();
  // It goes with the PF's driver.
  assertEquals(host.restore().failed, []);
  host.bind(PF);
  const [again = ""] = host.setVfCount(PF, 1);
  host.open(again).close();
});

Deno.test("no token is sent to what has nothing to do with SR-IOV; a VF of a PF on its own driver takes none", async () => {
  await using served = await ServedHost.start();
  using host = served.connect();
  host.bind(RNG);
  host.open(RNG, { vfToken: TOKEN }).close();
  const [vf = ""] = host.setVfCount(PF, 1);
  host.bind(vf);
  assertThrows(() => host.open(vf, { vfToken: TOKEN }), RefusedError, "takes no VF token");
  assertThrows(() => host.open(vf, { vfToken: "x" }), UsageError, "not a UUID");
  host.open(vf).close();
});

Deno.test("ringside --vf-token: sriov sets it, show needs it", async () => {
  await using served = await ServedHost.start();
  const run = (...args: string[]) => cli("--host", served.directory, ...args);
  for (const args of [["bind", PF], ["sriov", PF, "1", "--vf-token", TOKEN]]) {
    assertEquals((await run(...args)).code, 0, args.join(" "));
  }
  const vf = "0000:01:00.1";
  const without = await run("show", vf);
  assertStringIncludes(without.out + without.err, "a VF token is needed");
  const withOther = await run("net", "receive", vf, "-", "--count", "1", "--vf-token", OTHER);
  assertEquals(withOther.code, 1, withOther.err);
  assertStringIncludes(withOther.err, "the VF token is not the one");
  const right = await run("show", vf, "--vf-token", TOKEN);
  assertEquals(right.code, 0, right.err);
  assertStringIncludes(right.out, "VIRTIO_NET_F_MAC");
});
