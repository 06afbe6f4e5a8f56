/**
 * All capabilities that have a declaration, and what a walk makes of them.
 *
 * @module
 */

import { ACCESS_CONTROL } from "./access_control.ts";
import { ADDRESS_TRANSLATION } from "./address_translation.ts";
import { ADVANCED_ERROR_REPORTING } from "./advanced_error_reporting.ts";
import { ADVANCED_FEATURES } from "./advanced_features.ts";
import { ALTERNATIVE_ROUTING_ID } from "./alternative_routing_id.ts";
import type { Decoded } from "./declaration.ts";
import { DEBUG_PORT } from "./debug_port.ts";
import { SATA } from "./sata.ts";
import { MULTICAST } from "./multicast.ts";
import { ROOT_COMPLEX_LINK } from "./root_complex_link.ts";
import { EVENT_COLLECTOR } from "./event_collector.ts";
import { DEVICE_3 } from "./device_3.ts";
import { PHYSICAL_LAYER_32, PHYSICAL_LAYER_64 } from "./physical_layer.ts";
import { INTEGRITY_AND_DATA_ENCRYPTION } from "./integrity_and_data_encryption.ts";
import { DOWNSTREAM_PORT_CONTAINMENT } from "./downstream_port_containment.ts";
import { ENHANCED_ALLOCATION } from "./enhanced_allocation.ts";
import { EXPRESS } from "./express.ts";
import { DESIGNATED_VENDOR_SPECIFIC, EXTENDED_VENDOR_SPECIFIC } from "./extended_vendor_specific.ts";
import { L1_SUBSTATES } from "./l1_substates.ts";
import { LATENCY_TOLERANCE } from "./latency_tolerance.ts";
import { MSI } from "./msi.ts";
import { MSIX } from "./msix.ts";
import { PAGE_REQUEST } from "./page_request.ts";
import { PASID } from "./pasid.ts";
import { POWER_MANAGEMENT } from "./power_management.ts";
import { PRECISION_TIME_MEASUREMENT } from "./precision_time_measurement.ts";
import { RESIZABLE_BAR, VF_RESIZABLE_BAR } from "./resizable_bar.ts";
import { SECONDARY_EXPRESS } from "./secondary_express.ts";
import { SERIAL_NUMBER } from "./serial_number.ts";
import { SRIOV } from "./sriov.ts";
import { SUBSYSTEM_ID } from "./subsystem_id.ts";
import { TPH_REQUESTER } from "./tph_requester.ts";
import { VENDOR_SPECIFIC } from "./vendor_specific.ts";
import { VIRTIO } from "./virtio.ts";
import { VIRTUAL_CHANNEL, VIRTUAL_CHANNEL_WITH_MFVC } from "./virtual_channel.ts";
import { VITAL_PRODUCT_DATA } from "./vital_product_data.ts";
import type { CapabilityHeader } from "./window.ts";

/** The declarations. Of two with the same ID the first that is of the function's vendor counts. */
export const CAPABILITIES = [
  POWER_MANAGEMENT,
  VITAL_PRODUCT_DATA,
  MSI,
  VIRTIO,
  VENDOR_SPECIFIC,
  SUBSYSTEM_ID,
  EXPRESS,
  MSIX,
  ADVANCED_FEATURES,
  ENHANCED_ALLOCATION,
  DEBUG_PORT,
  SATA,
  ADVANCED_ERROR_REPORTING,
  VIRTUAL_CHANNEL,
  VIRTUAL_CHANNEL_WITH_MFVC,
  SERIAL_NUMBER,
  EXTENDED_VENDOR_SPECIFIC,
  ACCESS_CONTROL,
  ALTERNATIVE_ROUTING_ID,
  ADDRESS_TRANSLATION,
  SRIOV,
  PAGE_REQUEST,
  RESIZABLE_BAR,
  VF_RESIZABLE_BAR,
  TPH_REQUESTER,
  LATENCY_TOLERANCE,
  SECONDARY_EXPRESS,
  PASID,
  DOWNSTREAM_PORT_CONTAINMENT,
  L1_SUBSTATES,
  PRECISION_TIME_MEASUREMENT,
  DESIGNATED_VENDOR_SPECIFIC,
  ROOT_COMPLEX_LINK,
  EVENT_COLLECTOR,
  MULTICAST,
  PHYSICAL_LAYER_32,
  DEVICE_3,
  INTEGRITY_AND_DATA_ENCRYPTION,
  PHYSICAL_LAYER_64,
] as const;

/** A capability that this library knows by name at most. */
export interface OtherCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "other";
}

/** An entry that is on the list only to link on: ID 0, or 0xffff as QEMU and VFIO use it to hide a capability. */
export interface NullCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "null";
}

/** A capability whose ID is known but whose contents cannot be what the ID says. */
export interface MalformedCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "malformed";
  /** What is wrong with it. */
  readonly reason: string;
}

/** A capability that goes on where the snapshot has no bytes. */
export interface CutCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "cut";
  /** Bytes that it needs, as far as those at hand tell. */
  readonly neededBytes: number;
  /** Those at hand, its header included. */
  readonly data: Uint8Array;
}

/** Any decoded capability; `kind` tells which. */
export type Capability =
  | CutCapability
  | Decoded<typeof CAPABILITIES[number]>
  | MalformedCapability
  | NullCapability
  | OtherCapability;

/** The decoded capability of a kind, such as `CapabilityOf<"sr-iov">`. */
export type CapabilityOf<K extends Capability["kind"]> = Extract<Capability, { readonly kind: K }>;
