/**
 * Messages and notify addresses of managed devices that are the test's own.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import type {
  MsiAddresses,
  NotifyArea,
  NotifyAreas,
} from "../../../../drivers/management/virtio_management.ts";
import type { BarDoorbell } from "../../../../lib/vfio/doorbell.ts";

/** Messages that arrive at eventfds of the test. */
export class TestMsi implements MsiAddresses {
  available = 3;
  lack: string | undefined;
  readonly allotted: EventFd[] = [];
  allot(eventFd: EventFd = new EventFd()) {
    const data = 10 + this.allotted.push(eventFd);
    this.available--;
    return {
      eventFd,
      address: 0xfee0_0000n,
      data,
      [Symbol.dispose]: () => {
        eventFd.close();
        this.available++;
      },
    };
  }
}

/** What was written where. */
export class TestAreas implements NotifyAreas {
  readonly writes: [bigint, number][] = [];
  doorbell({ address }: NotifyArea): BarDoorbell {
    return { kind: "access", write: (value) => void this.writes.push([address, value]) };
  }
}
