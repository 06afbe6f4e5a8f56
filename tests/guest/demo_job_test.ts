/** The main job of the demo, by the same code, on QEMU's own functions behind kernel VFIO. */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { type Observer, vfToVf } from "../../cli/vf_to_vf.ts";
import { ID, pathTest, physicalFunction, snapshot } from "./guest_host.ts";

const SILENT: Observer = {
  step: () => {},
  frames: () => ({ update: () => {}, [Symbol.dispose]: () => {} }),
};

pathTest("the demo's main job: VF to VF, polled and by MSI-X, and the host put back", async (host, path) => {
  const before = snapshot();
  const steps: string[] = [];
  const result = await vfToVf(host, {
    pf: physicalFunction(ID.net),
    vfs: 3,
    frames: 2000,
    interruptFrames: 200,
    open: { path },
    observer: { ...SILENT, step: (what, found) => steps.push(`${what}: ${found}`) },
  });
  assertEquals(snapshot(), before, "the job itself puts the host back");
  assertEquals([result.vfs.length, result.polled.frames, result.byInterrupt.frames], [3, 2000, 200]);
  assertGreaterOrEqual(result.interrupts, 200);
  for (const part of ["VF token", `by ${path}`, "msix"]) {
    assert(steps.some((step) => step.includes(part)), `no "${part}" in\n${steps.join("\n")}`);
  }
});
