/**
 * A driver of a device that does not exist: one queue, and what is written there is read back. What a driver takes that has nothing of its own but this.
 *
 * @module
 */
import { type DriverKind, DriverLife, type DriverParts } from "../../../drivers/driver_life.ts";
import { VirtioDriver } from "../../../drivers/driver.ts";
import type { DriverOptions } from "../../../drivers/driver_options.ts";
import type { Session } from "../../../drivers/session.ts";
import { DeviceError, TimeoutError } from "../../../lib/errors/mod.ts";
import { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";

export const ECHO_ID = 60;
export const MOST_BYTES = 256;
const KIND: DriverKind = { what: "echo device", deviceId: ECHO_ID, modernOnly: "it is younger" };

interface EchoParts extends DriverParts {
  readonly pool: BufferPool;
}

export class VirtioEcho extends VirtioDriver {
  readonly #life: DriverLife<EchoParts>;
  readonly #used = usedBurst(1);

  private constructor(life: DriverLife<EchoParts>) {
    super(life);
    this.#life = life;
  }

  static async open(transport: VirtioTransport, options: DriverOptions = {}): Promise<VirtioEcho> {
    const life = new DriverLife(transport, KIND, options, build);
    return await life.open(new VirtioEcho(life));
  }

  async echo(bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const { pool } = this.#life.live;
    pool.views[0]!.set(bytes);
    pool.queue.begin(1, 1);
    pool.addPart(0, 0, bytes.length);
    pool.addPart(0, MOST_BYTES, MOST_BYTES);
    pool.commit(0);
    pool.queue.flush();
    if (!await this.#life.wait(pool.queue, timeoutMs)) {
      throw new TimeoutError(`${this.transport.name}: no echo`);
    }
    pool.takeUsed(this.#used);
    const length = this.#used.lengths[0]!;
    if (length === bytes.length) return pool.views[0]!.slice(MOST_BYTES, MOST_BYTES + length);
    throw new DeviceError(`${length} bytes`, { function: this.transport.name, queue: 0, field: "used.len" });
  }
}

function build(session: Session): EchoParts {
  session.negotiate();
  session.listen([0]);
  const options = { label: "echo", count: 1, slotBytes: 2 * MOST_BYTES };
  const pool = session.own(new BufferPool(session.queue(0, 4), session.device.transport.dma, options));
  session.device.driverOk();
  return { pool, configChanged: () => session.device.checkAlive() };
}
