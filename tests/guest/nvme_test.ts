/** The NVMe example on kernel VFIO, against a disk whose bytes are known. */
import { assertEquals } from "@std/assert";
import { readNvme } from "../../examples/nvme.ts";
import { functions, ID, pathTest } from "./guest_host.ts";
import { nvmeBlocks } from "./rig/devices.ts";

pathTest(
  "nvme: identified, and blocks read as they are on the disk, polled and by MSI-X",
  async (host, path) => {
    const [address] = functions(ID.nvme);
    const disk = nvmeBlocks();
    const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", disk)).toHex();
    for (const byInterrupt of [false, true]) {
      const read = await readNvme(host, address!, { byInterrupt, count: disk.length / 512, path });
      const { model, serial, version, blocks, blockBytes, bytes } = read;
      console.log(
        `${address} by ${path}, ${byInterrupt ? "MSI-X" : "polled"}: ${model} ${serial}, NVMe ${version}, ` +
          `${blocks} blocks of ${blockBytes} bytes; ${bytes} bytes, SHA-256 ${read.sha256}`,
      );
      assertEquals([serial, blocks * blockBytes, bytes], ["ringside-nvme", disk.length, disk.length]);
      assertEquals(read.sha256, sha256);
    }
  },
);
