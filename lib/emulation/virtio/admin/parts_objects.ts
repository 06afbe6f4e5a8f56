/**
 * Resource objects of type DEV_PARTS and the capability that limits them (virtio 1.4 §2.12.1.2–2.12.1.4; reference 3.6).
 *
 * The capability is the owner's (self group); the objects belong to one member each (SR-IOV group), and so do their ids and the limits.
 *
 * @module
 */
import {
  ADMIN_CAP,
  ADMIN_OPCODE,
  CAP_GET_DATA,
  CAP_SET_DATA,
  DEV_PARTS_CAP,
  DEV_PARTS_OBJ_TYPE,
  RESOURCE_OBJ_CREATE,
  RESOURCE_OBJ_DEV_PARTS,
  RESOURCE_OBJ_HEADER,
  RESOURCE_OBJ_TYPE,
} from "../../../virtio/spec/admin.ts";
import { type AdminHandlers, idBitmap } from "./command_group.ts";
import type { AdminHandler, AdminOutcome, AdminRequest } from "./handler.ts";
import { BUSY, INVALID_FIELD, NO_SUCH_ID, OK } from "./outcomes.ts";

/** How many objects of each kind a member may have. */
export interface PartsLimits {
  /** Objects for reading parts, 0 to 255. */
  readonly get: number;
  /** Objects for writing parts, 0 to 255. */
  readonly set: number;
}

/** What an object is for: `DEV_PARTS_OBJ_TYPE`. */
export type PartsObjectKind = typeof DEV_PARTS_OBJ_TYPE[keyof typeof DEV_PARTS_OBJ_TYPE];

const EXISTS: AdminOutcome = { status: "EEXIST", qualifier: "INVALID_FIELD" };
const EXHAUSTED: AdminOutcome = { status: "ENOSPC", qualifier: "NORESOURCE" };
/** A driver that has not set the capability has no objects. */
const NO_LIMITS: PartsLimits = { get: 0, set: 0 };

/** See the module. */
export class PartsObjects {
  readonly #device: PartsLimits;
  #driver = NO_LIMITS;
  /** By member, then by object id. */
  readonly #objects = new Map<bigint, Map<number, PartsObjectKind>>();

  /** None yet. @param device what the device offers */
  constructor(device: PartsLimits) {
    this.#device = device;
  }

  /** Commands of the self group. */
  readonly capabilityCommands: AdminHandlers = new Map<number, AdminHandler>([
    [
      ADMIN_OPCODE.CAP_ID_LIST_QUERY,
      () => ({ status: "OK", result: idBitmap([ADMIN_CAP.DEV_PARTS]) }),
    ],
    [ADMIN_OPCODE.DEVICE_CAP_GET, (request) => this.#getCapability(request)],
    [ADMIN_OPCODE.DRIVER_CAP_SET, (request) => this.#setCapability(request)],
  ]);

  /** Commands of the SR-IOV group. */
  readonly objectCommands: AdminHandlers = new Map<number, AdminHandler>([
    [ADMIN_OPCODE.RESOURCE_OBJ_CREATE, (request) => this.#create(request)],
    [ADMIN_OPCODE.RESOURCE_OBJ_MODIFY, (request) => this.#modify(request)],
    [ADMIN_OPCODE.RESOURCE_OBJ_QUERY, (request) => this.#query(request)],
    [ADMIN_OPCODE.RESOURCE_OBJ_DESTROY, (request) => this.#destroy(request)],
  ]);

  /** What the object is for that `data` begins with the header of; undefined when the member has no such object. */
  kindOf({ memberId, data }: AdminRequest): PartsObjectKind | undefined {
    const { type, id } = RESOURCE_OBJ_HEADER.decode(atLeast(data, RESOURCE_OBJ_HEADER.sizeBytes));
    return type === RESOURCE_OBJ_TYPE.DEV_PARTS ? this.#objects.get(memberId)?.get(id) : undefined;
  }

  /** Device reset of the owner: no objects, and no capability set by the driver. */
  reset(): void {
    this.#driver = NO_LIMITS;
    this.#objects.clear();
  }

  /** The member is gone, and its objects with it. */
  forget(memberId: bigint): void {
    this.#objects.delete(memberId);
  }

  #getCapability({ data }: AdminRequest): AdminOutcome {
    const { id } = CAP_GET_DATA.decode(atLeast(data, CAP_GET_DATA.sizeBytes));
    if (id !== ADMIN_CAP.DEV_PARTS) return NO_SUCH_ID;
    const { get, set } = this.#device;
    return {
      status: "OK",
      result: DEV_PARTS_CAP.encode({
        get_parts_resource_objects_limit: get,
        set_parts_resource_objects_limit: set,
      }),
    };
  }

  #setCapability({ data }: AdminRequest): AdminOutcome {
    const bytes = atLeast(data, CAP_SET_DATA.sizeBytes + DEV_PARTS_CAP.sizeBytes);
    if (CAP_SET_DATA.decode(bytes).id !== ADMIN_CAP.DEV_PARTS) return NO_SUCH_ID;
    const wanted = DEV_PARTS_CAP.decode(bytes, CAP_SET_DATA.sizeBytes);
    const limits: PartsLimits = {
      get: wanted.get_parts_resource_objects_limit,
      set: wanted.set_parts_resource_objects_limit,
    };
    if (limits.get > this.#device.get || limits.set > this.#device.set) return INVALID_FIELD;
    for (const objects of this.#objects.values()) if (!fits(objects, limits)) return BUSY;
    this.#driver = limits;
    return OK;
  }

  #create({ memberId, data }: AdminRequest): AdminOutcome {
    const { type, id, kind } = objectData(data);
    if (type !== RESOURCE_OBJ_TYPE.DEV_PARTS || kind === undefined) return INVALID_FIELD;
    const objects = this.#objects.get(memberId) ?? new Map<number, PartsObjectKind>();
    if (objects.has(id)) return EXISTS;
    if (countOf(objects, kind) >= limitOf(this.#driver, kind)) return EXHAUSTED;
    this.#objects.set(memberId, objects.set(id, kind));
    return OK;
  }

  #modify(request: AdminRequest): AdminOutcome {
    const before = this.kindOf(request);
    if (before === undefined) return NO_SUCH_ID;
    const { id, kind } = objectData(request.data);
    if (kind === undefined) return INVALID_FIELD;
    if (kind === before) return OK;
    const objects = this.#objects.get(request.memberId)!;
    if (countOf(objects, kind) >= limitOf(this.#driver, kind)) return EXHAUSTED;
    objects.set(id, kind);
    return OK;
  }

  #query(request: AdminRequest): AdminOutcome {
    const kind = this.kindOf(request);
    return kind === undefined
      ? NO_SUCH_ID
      : { status: "OK", result: RESOURCE_OBJ_DEV_PARTS.encode({ type: kind }) };
  }

  #destroy(request: AdminRequest): AdminOutcome {
    if (this.kindOf(request) === undefined) return NO_SUCH_ID;
    const objects = this.#objects.get(request.memberId)!;
    objects.delete(RESOURCE_OBJ_HEADER.decode(atLeast(request.data, RESOURCE_OBJ_HEADER.sizeBytes)).id);
    if (objects.size === 0) this.#objects.delete(request.memberId);
    return OK;
  }
}

/** The data of CREATE and MODIFY. `kind` is undefined for one that there is not. */
function objectData(data: Uint8Array): { type: number; id: number; kind: PartsObjectKind | undefined } {
  const head = RESOURCE_OBJ_CREATE.sizeBytes;
  const bytes = atLeast(data, head + RESOURCE_OBJ_DEV_PARTS.sizeBytes);
  const { type, id } = RESOURCE_OBJ_CREATE.decode(bytes);
  const wanted = RESOURCE_OBJ_DEV_PARTS.decode(bytes, head).type;
  return { type, id, kind: Object.values(DEV_PARTS_OBJ_TYPE).find((kind) => kind === wanted) };
}

/** `data`, followed by zeros when it is shorter than a structure (N-3.12). */
export function atLeast(data: Uint8Array, sizeBytes: number): Uint8Array {
  if (data.length >= sizeBytes) return data;
  const longer = new Uint8Array(sizeBytes);
  longer.set(data);
  return longer;
}

function limitOf(limits: PartsLimits, kind: PartsObjectKind): number {
  return kind === DEV_PARTS_OBJ_TYPE.get ? limits.get : limits.set;
}

function countOf(objects: ReadonlyMap<number, PartsObjectKind>, kind: PartsObjectKind): number {
  let count = 0;
  for (const one of objects.values()) if (one === kind) count++;
  return count;
}

function fits(objects: ReadonlyMap<number, PartsObjectKind>, limits: PartsLimits): boolean {
  return Object.values(DEV_PARTS_OBJ_TYPE).every((kind) => countOf(objects, kind) <= limitOf(limits, kind));
}
