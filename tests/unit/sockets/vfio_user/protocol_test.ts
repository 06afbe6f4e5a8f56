/** Layouts of vfio-user messages, pinned by offset, and the VERSION message's JSON. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ProtocolError } from "../../../../lib/errors/mod.ts";
import { decodeVersion, encodeVersion } from "../../../../lib/sockets/vfio_user/capabilities.ts";
import * as protocol from "../../../../lib/sockets/vfio_user/protocol.ts";
import * as abi from "../../../../lib/vfio/kernel/abi.ts";
import type { Fields, Struct } from "../../../../lib/wire/mod.ts";

/** `name@offset:type` of every field, and the size. */
function layout(struct: Struct<Fields>): string {
  const fields = Object.entries(struct.fields).map(([name, { offset, type }]) => `${name}@${offset}:${type}`);
  return `${struct.sizeBytes} ${fields.join(" ")}`;
}

Deno.test("vfio-user structures have the published sizes and offsets", () => {
  assertEquals(
    layout(protocol.messageHeader),
    "16 messageId@0:u16 command@2:u16 messageBytes@4:u32 flags@8:u32 errorNumber@12:u32",
  );
  assertEquals(layout(protocol.versionMessage), "4 major@0:u16 minor@2:u16");
  assertEquals(layout(protocol.dmaMap), "32 argsz@0:u32 flags@4:u32 offset@8:u64 address@16:u64 size@24:u64");
  assertEquals(layout(protocol.dmaUnmap), "24 argsz@0:u32 flags@4:u32 address@8:u64 size@16:u64");
  assertEquals(layout(protocol.userDeviceInfo), "16 argsz@0:u32 flags@4:u32 numRegions@8:u32 numIrqs@12:u32");
  assertEquals(layout(abi.irqInfo), "16 argsz@0:u32 flags@4:u32 index@8:u32 count@12:u32");
  assertEquals(
    layout(abi.irqSet),
    "20 argsz@0:u32 flags@4:u32 index@8:u32 start@12:u32 count@16:u32",
  );
  assertEquals(layout(protocol.regionAccess), "16 offset@0:u64 region@8:u32 count@12:u32");
  assertEquals(layout(protocol.dmaAccess), "16 address@0:u64 count@8:u64");
  assertEquals(layout(protocol.writeMulti), "8 writeCount@0:u64");
  assertEquals(layout(protocol.writeMultiEntry), "24 offset@0:u64 region@8:u32 count@12:u32 data@16:u64");
  assertEquals(layout(protocol.regionIoFds), "16 argsz@0:u32 flags@4:u32 index@8:u32 count@12:u32");
  assertEquals(
    layout(protocol.ioEventFd),
    "40 offset@0:u64 size@8:u64 fdIndex@16:u32 type@20:u32 flags@24:u32 padding@28:u32 dataMatch@32:u64",
  );
  assertEquals(
    layout(protocol.ioEventFdShadow),
    "48 offset@0:u64 size@8:u64 fdIndex@16:u32 type@20:u32 flags@24:u32 shadowFdIndex@28:u32 " +
      "shadowOffset@32:u64 dataMatch@40:u64",
  );
  assertEquals(layout(abi.deviceFeature), "8 argsz@0:u32 flags@4:u32");
});

Deno.test("vfio-user commands and flags have the published numbers", () => {
  assertEquals(Object.values(protocol.COMMAND), Array.from({ length: 18 }, (_, i) => i + 1));
  assertEquals(protocol.commandName(6), "DEVICE_GET_REGION_IO_FDS");
  assertEquals(protocol.commandName(15), "REGION_WRITE_MULTI");
  assertEquals(protocol.commandName(99), "command 99");
  assertEquals({ ...protocol.MESSAGE_FLAG }, {
    typeMask: 15,
    typeCommand: 0,
    typeReply: 1,
    noReply: 16,
    error: 32,
    known: 63,
  });
});

const defaults = {
  maxMessageFds: 1,
  maxDataTransferBytes: 1 << 20,
  maxDmaMaps: 65535,
  pageSizes: 4096,
  writeMultiple: false,
};

function withJson(json: string): Uint8Array {
  return new Uint8Array([0, 0, 1, 0, ...new TextEncoder().encode(json)]);
}

Deno.test("VERSION: what is left out has the specification's default", () => {
  const bare = decodeVersion(new Uint8Array([0, 0, 7, 0]), "peer");
  assertEquals({ ...bare, named: [...bare.named] }, {
    major: 0,
    minor: 7,
    capabilities: defaults,
    named: [],
  });
  assertEquals(decodeVersion(withJson("{}\0"), "peer").capabilities, defaults);
  assertEquals(
    decodeVersion(withJson('{"capabilities":{"twin_socket":{}}}\0'), "peer").capabilities,
    defaults,
  );
});

Deno.test("VERSION: QEMU's offer is understood, and its answer names nothing that the offer did not", () => {
  const json =
    '{"capabilities": {"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "max_msg_fds": 16, ' +
    '"max_data_xfer_size": 1048576, "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": true}}\0';
  const offer = decodeVersion(withJson(json), "peer");
  assertEquals(offer.capabilities, { ...defaults, maxMessageFds: 16, writeMultiple: true });
  const answer = encodeVersion(0, offer.capabilities, new Set(["max_msg_fds", "migration"]));
  assertEquals(
    new TextDecoder().decode(answer),
    '\0\0\0\0{"capabilities":{"max_msg_fds":16}}\0',
  );
});

Deno.test("VERSION: a peer may take as few bytes of data in a message as it likes", () => {
  for (const bytes of [0, 1, 7, 8]) {
    const json = `{"capabilities":{"max_data_xfer_size":${bytes}}}\0`;
    assertEquals(decodeVersion(withJson(json), "peer").capabilities.maxDataTransferBytes, bytes);
  }
});

Deno.test("VERSION: encoding and decoding agree", () => {
  const capabilities = {
    ...defaults,
    maxMessageFds: 9,
    maxDmaMaps: 77,
    pageSizes: 0x203000,
    writeMultiple: true,
  };
  assertEquals(decodeVersion(encodeVersion(3, capabilities), "peer").capabilities, capabilities);
});

Deno.test("VERSION: a malformed message is a ProtocolError that names the member", () => {
  const bad: [Uint8Array, string][] = [
    [new Uint8Array(3), "3 of 4 bytes"],
    [withJson("{}"), "NUL"],
    [withJson("{\0"), "not JSON"],
    [withJson("[]\0"), "not a JSON object"],
    [withJson('{"capabilities":3}\0'), "capabilities"],
    [withJson('{"capabilities":{"max_msg_fds":"8"}}\0'), "max_msg_fds"],
    [withJson('{"capabilities":{"max_msg_fds":-1}}\0'), "max_msg_fds"],
    [withJson('{"capabilities":{"max_msg_fds":1.5}}\0'), "max_msg_fds"],
    [withJson('{"capabilities":{"max_data_xfer_size":-1}}\0'), "max_data_xfer_size"],
    [withJson('{"capabilities":{"max_dma_maps":1e300}}\0'), "max_dma_maps"],
    [withJson('{"capabilities":{"pgsizes":2048}}\0'), "pgsizes"],
    [withJson('{"capabilities":{"write_multiple":1}}\0'), "write_multiple"],
    [withJson(`${"[".repeat(4000)}\0`), "not JSON"],
    [withJson(`"${"x".repeat(5000)}"\0`), "bytes"],
    [new Uint8Array([0, 0, 0, 0, 0xff, 0xfe, 0]), "not JSON"],
  ];
  for (const [bytes, text] of bad) {
    assertThrows(() => decodeVersion(bytes, "peer"), ProtocolError, text);
  }
});

Deno.test("VERSION: a peer's limits count only up to ours", () => {
  const json = '{"capabilities":{"max_msg_fds":1000,"max_data_xfer_size":4294967296}}\0';
  const { capabilities } = decodeVersion(withJson(json), "peer");
  assertEquals(capabilities.maxMessageFds, 64);
  assert(capabilities.maxDataTransferBytes <= 64 << 20);
});
