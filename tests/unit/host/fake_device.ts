import { ClosedError } from "../../../lib/errors/mod.ts";
import { DEVICE_FLAG } from "../../../lib/vfio/device.ts";
import type { VfioPciDevice } from "../../../lib/vfio/pci_device.ts";

/** A device that can only be closed; `log` gets the names of the calls. */
export function fakeDevice(address: string, log: string[] = [], onClosed = () => {}): VfioPciDevice {
  let closed = false;
  return new Proxy({}, {
    get: (_, name) => {
      if (name === "name") return address;
      if (name === "path") return "vfio-user";
      if (name === "info") return { flags: DEVICE_FLAG.reset | DEVICE_FLAG.pci, numRegions: 9, numIrqs: 5 };
      if (name === "closed") return closed;
      return (...args: unknown[]) => {
        log.push([String(name), ...args.map(String)].join(" "));
        if (name === "close" || name === Symbol.dispose) {
          if (!closed) onClosed();
          closed = true;
        } else if (closed) throw new ClosedError(address);
        return name;
      };
    },
  }) as VfioPciDevice;
}
