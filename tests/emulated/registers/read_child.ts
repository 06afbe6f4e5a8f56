/**
 * Reads one mapped register until the code is hot, then goes on while the memory behind it is taken away: a read that is made is a bus
 * error, which ends the process. Prints `survived` when it is not.
 * Arguments: what reads (`read8` … `read64` of a BAR; `region8` … `region64`: shared memory), and how: `unused` or `waited`; then the file.
 */
import { MappedMemory, O, OwnedFd, pageSizeBytes, resizeFile } from "../../../ffi/mod.ts";
import { Bar } from "../../../lib/vfio/mod.ts";
import { RegionMemory } from "../../../drivers/ism/region_memory.ts";
import type { SharedMemory } from "../../../lib/virtio/mod.ts";
import { FakeDevice } from "../../unit/vfio/fake_device.ts";

const [what, how, path] = Deno.args as [string, string, string];
const area = { offset: 0, sizeBytes: pageSizeBytes };
const file = OwnedFd.open(path, O.RDWR);

class Truncated extends FakeDevice {
  override mapRegion(): MappedMemory {
    return MappedMemory.map(file, pageSizeBytes);
  }
}
const bar = new Bar(new Truncated({ 0: { sizeBytes: pageSizeBytes, mmapAreas: [area] } }), 0);
const shared = { map: () => MappedMemory.map(file, pageSizeBytes) } as Partial<SharedMemory> as SharedMemory;
const runs = [{ areaOffset: 0, sizeBytes: pageSizeBytes }] as unknown as ConstructorParameters<
  typeof RegionMemory
>[1];
const region = new RegionMemory(shared, runs, pageSizeBytes, { read: true, write: true }, "region");

const read = {
  read8: () => bar.read8(0),
  read16: () => bar.read16(0),
  read32: () => bar.read32(0),
  read64: () => bar.read64(0),
  region8: () => region.getUint8(0),
  region16: () => region.getUint16(0),
  region32: () => region.getUint32(0),
  region64: () => region.getBigUint64(0),
}[what]!;
const several = (rounds: number) => {
  for (let i = 0; i < rounds; i++) read();
};
const waited = (rounds: number) => {
  while (rounds-- > 0 && !read());
};
if (how === "unused") {
  for (let i = 0; i < 50; i++) several(20_000);
  resizeFile(file, 0);
  several(1);
  several(20_000);
} else {
  for (let i = 0; i < 50; i++) waited(20_000);
  // The other process truncates when it sees this line, while the loop runs.
  console.log("waiting");
  waited(500_000_000);
}
console.log("survived");
