#!/usr/bin/env python3
"""Reads checkpoints and epoch logs of statefun, by nothing but what statefun-core/FORMAT.md tells.

    read_checkpoint.py checkpoint BUCKET [ID | NAME | latest] [--behind]
    read_checkpoint.py log DIRECTORY [CATALOG]

BUCKET is a directory. A line of JSON for each row (or record of the log), and a summary at the end. `--behind` applies the epochs
behind the latest checkpoint, as a restore does. Every checksum that is met is checked. Ends with 1 when something is damaged or newer.
"""

import io
import json
import os
import struct
import sys

import msgpack
import xxhash
import zstandard

VERSION = 1
SPACES = {
    0x10: "state", 0x20: "timer", 0x21: "token", 0x30: "waiting", 0x31: "queue", 0x40: "operation", 0x50: "source",
    0x60: "deadLetter",
}


class Damaged(Exception):
    """Bytes are not what they must be, or of a version that is not known."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


def checksum(*parts):
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


def hash32(text):
    return checksum(text.encode()) & 0xFFFFFFFF


def unpacked(data):
    out = io.BytesIO()
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        while chunk := reader.read(1 << 20):
            out.write(chunk)
    return out.getvalue()


def text_bytes(text):
    return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()


class Cursor:
    """Bytes from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __bool__(self):
        return self.at < len(self.data)

    def take(self, length):
        need(self.at + length <= len(self.data), "bytes end early")
        found = self.data[self.at : self.at + length]
        self.at += length
        return found

    def rest(self):
        return self.take(len(self.data) - self.at)

    def number(self, code, order="<"):
        return struct.unpack(order + code, self.take(struct.calcsize(order + code)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def varint(self):
        number = shift = 0
        for _ in range(5):
            byte = self.u8()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
        raise Damaged("a number of more than five bytes")

    def escaped(self):
        text = bytearray()
        while True:
            byte = self.u8()
            if byte:
                text.append(byte)
                continue
            mark = self.u8()
            if mark == 1:
                return bytes(text)
            need(mark == 0xFF, "an escape that is none")
            text.append(0)


# Parts of runs -------------------------------------------------------------------------------------------------------


def part_rows(data, stated):
    """The rows of a part: (key, value or None)."""
    need(len(data) == stated["bytes"], "a part of another length")
    need(checksum(data) == int(stated["checksum"], 16), "the checksum of a part")
    head = b"SFRN" + struct.pack("<HH", VERSION, 0)
    need(data[:8] == head, "the header of a part")
    footer = data[-72:]
    need(footer[64:] == head, "the end of a part")
    need(checksum(footer[:56]) == struct.unpack_from("<Q", footer, 56)[0], "the checksum of a footer")
    begin, length, blocks, last_len, rows, deletes, raw, index_sum = struct.unpack_from("<QQIIQQQQ", footer)
    need(begin + length == len(data) - 72, "where the index is")
    need(stated["tailBytes"] == length + 72, "tailBytes")
    index = data[begin : begin + length]
    need(checksum(index) == index_sum, "the checksum of an index")
    entries = Cursor(index)
    found, at, last = [], 8, b""
    for _ in range(blocks):
        offset, stored_len, raw_len, count, key_len = struct.unpack("<QQQII", entries.take(32))
        first_key = entries.take(key_len)
        need(offset == at, "blocks that are not next to one another")
        header, stored = data[at : at + 32], data[at + 32 : at + 32 + stored_len]
        need(checksum(header[8:], stored) == struct.unpack_from("<Q", header)[0], "the checksum of a block")
        need(struct.unpack_from("<QQI", header, 8) == (stored_len, raw_len, count), "a block as the index tells")
        codec = header[28]
        need(codec in (0, 1) and header[29:] == bytes(3), "how a block is stored")
        block = Cursor(unpacked(stored) if codec else stored)
        need(len(block.data) == raw_len, "the length of rows")
        key = b""
        for number in range(count):
            shared, rest, value = block.varint(), block.varint(), block.varint()
            need(shared <= len(key) and (number or not shared), "what keys have in common")
            key = key[:shared] + block.take(rest)
            need(key > last or not found, "the order of keys")
            need(number or key == first_key, "the first key of a block")
            last = key
            found.append((key, block.take(value - 1) if value else None))
        need(not block, "bytes behind the last row")
        at += 32 + stored_len
    need(at == begin, "where the index begins")
    need(entries.take(last_len) == last and not entries, "the last key")
    need(rows == len(found) == stated["rows"], "the number of rows")
    need(deletes == sum(value is None for _, value in found) == stated["deletes"], "the number of deletes")
    need(raw == sum(len(k) + len(v or b"") for k, v in found) == stated["rawBytes"], "the length of keys and values")
    need((found[0][0].hex(), last.hex()) == (stated["firstKey"], stated["lastKey"]), "first and last key")
    return found


# Records and messages ------------------------------------------------------------------------------------------------


def address(cursor, names):
    function, length = cursor.u32(), cursor.u32()
    return {"function": names.get(function, f"{function:08x}"), "id": cursor.take(length).decode()}


def readable(data):
    """Nobody tells the format of a message: JSON or MessagePack where it reads as such, else digits."""
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return plain(msgpack.unpackb(data, raw=False, strict_map_key=False))
    except Exception:  # noqa: BLE001: whatever it is, it is not MessagePack
        return {"hex": data.hex()}


def envelope(cursor, names):
    own = Cursor(cursor.take(cursor.u32()))
    to = address(own, names)
    flags = own.u8()
    need(flags < 4, "an envelope with flags that are not known")
    sender = address(own, names) if flags & 1 else None
    trace = trace_context(own) if flags & 2 else None
    typename = own.take(own.u16()).decode()
    return {"to": to, "from": sender, "trace": trace, "type": typename, "body": readable(own.rest())}


def trace_context(cursor):
    trace, span, flags = cursor.take(16).hex(), cursor.take(8).hex(), cursor.u8()
    state = cursor.take(cursor.u16()).decode()
    return {"traceparent": f"00-{trace}-{span}-{flags:02x}", "tracestate": state}


def envelopes(data, names):
    cursor, found = Cursor(data), []
    while cursor:
        found.append(envelope(cursor, names))
    return found


def egress_records(data, egresses, epoch):
    cursor, found = Cursor(data), []
    while cursor:
        egress, message, length = cursor.u64(), cursor.u64(), cursor.u32()
        own, trace = Cursor(cursor.take(length & 0x7FFFFFFF)), None
        if length >> 31:
            trace = {"parent": own.take(8).hex(), **trace_context(own)}
        found.append({
            "epoch": epoch, "egress": egresses.get(egress, f"{egress:016x}"), "messageType": f"{message:016x}",
            "trace": trace, "payload": readable(own.rest()),
        })
    return found


def epoch_body(data):
    """The body of an epoch, taken apart."""
    cursor = Cursor(data)
    time, sinks, workers = cursor.u64(), cursor.u32(), cursor.u32()
    body = {"time": time, "sinks": [], "rows": [], "carried": b"", "egress": b""}
    for _ in range(sinks):
        name = cursor.take(cursor.u16()).decode()
        through = cursor.u64()
        body["sinks"].append({"egress": name, "throughEpoch": through, "position": cursor.take(cursor.u32()).hex()})
    sections = [(cursor.u32(), cursor.u64(), cursor.u64(), cursor.u64()) for _ in range(workers)]
    for _, rows, carried, egress in sections:
        section = Cursor(cursor.take(rows))
        while section:
            key_len, tag = section.u32(), section.u32()
            key = section.take(key_len)
            body["rows"].append((key, section.take(tag - 1) if tag else None))
        body["carried"] += cursor.take(carried)
        body["egress"] += cursor.take(egress)
    need(not cursor, "bytes behind the body of an epoch")
    return body


# Rows ----------------------------------------------------------------------------------------------------------------


def plain(value):
    """As JSON has it."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(plain(key)): plain(item) for key, item in value.items()}
    return value


class Catalog:
    def __init__(self, catalog):
        need(catalog["version"] in (1, 2), f"a catalog of version {catalog['version']}")
        self.groups = catalog["key_groups"]
        self.names, self.states = {}, {}
        for name, function in catalog["functions"].items():
            need(function["number"] == hash32(name), "the number of a function")
            self.names[function["number"]] = name
            for state, entry in function["states"].items():
                need(entry["number"] == hash32(state), "the number of a state")
                self.states[function["number"], entry["number"]] = (state, entry)
        self.names.setdefault(hash32("io.statefun/source"), "io.statefun/source")
        self.egresses = {checksum(name.encode()): name for name in catalog.get("egresses", [])}
        # Schema ids of all forms that rows may have.
        self.schemas = {}
        for key, (_, entry) in self.states.items():
            forms = [(entry.get("version", 1), entry["shape"])]
            self.schemas[key] = {schema_id(shape, version) for version, shape in forms}
            self.schemas[key] |= {former["schema"] for former in entry.get("former", [])}

    def group_of(self, function, identity):
        seed = checksum(function.encode())
        return (xxhash.xxh3_64_intdigest(identity.encode(), seed) >> 32) % self.groups


def schema_id(shape, version):
    text = json.dumps(shape, separators=(",", ":"), ensure_ascii=False).encode()
    return checksum(text + (struct.pack("<I", version) if version > 1 else b"")) & 0xFFFFFFFF


def table_key(cursor, shape):
    if shape == "string":
        return cursor.escaped().decode()
    if shape == "bytes" or shape == {"seq": {"uint": 8}}:
        return {"hex": cursor.escaped().hex()}
    if shape == "bool":
        return cursor.u8() == 1
    if isinstance(shape, dict) and "tuple" in shape:
        return [table_key(cursor, part) for part in shape["tuple"]]
    if isinstance(shape, dict) and "uint" in shape:
        return int.from_bytes(cursor.take(shape["uint"] // 8), "big")
    if isinstance(shape, dict) and "int" in shape:
        # Two's complement with the highest bit flipped: as much more than it is.
        bits = shape["int"]
        return int.from_bytes(cursor.take(bits // 8), "big") - (1 << bits - 1)
    return {"hex": cursor.rest().hex()}


def state_row(rest, row, entry, out):
    """What follows the state's number, and the value."""
    value = Cursor(row)
    schema, out["expiresMs"] = value.u32(), value.u64()
    out["schema"] = f"{schema:08x}"
    payload, kind = value.rest(), entry["kind"]
    out["kind"] = kind
    if kind == "registry":
        what = rest.u8()
        name = rest.escaped().decode()
        if what == 0:
            out["subKey"], out["value"] = {"registers": name}, json.loads(payload)
        else:
            need(what == 1, "a row of a registry of another kind")
            out["subKey"] = {"registered": name}
            if rest:
                out["subKey"]["hex"] = rest.rest().hex()
            out["value"] = readable_value(payload)
        return
    out["subKey"] = None
    if kind == "table":
        out["subKey"] = table_key(rest, entry["key_shape"])
    elif kind == "buffer" and rest:
        out["subKey"] = rest.number("Q", ">")
    need(not rest, "bytes behind a key")
    # Of the current form; there may be rows of earlier ones, which have shapes of their own.
    shape = entry["shape"] if schema == schema_id(entry["shape"], entry.get("version", 1)) else None
    if shape and not (kind == "buffer" and out["subKey"] is None):
        need(fits(msgpack.unpackb(payload, raw=False, strict_map_key=False), shape), f"a value of the shape {shape}")
    out["value"] = readable_value(payload)


def fits(value, shape, enclosing=()):
    """Whether what was decoded is of a shape, as the page tells how each is written."""
    if isinstance(shape, str):
        kinds = {"bool": bool, "char": str, "string": str, "bytes": bytes}
        return value is None or value == [] if shape == "unit" else isinstance(value, kinds[shape])
    (kind, content), = shape.items()
    if kind in ("int", "uint"):
        if content == 128:
            return isinstance(value, bytes) and len(value) == 16
        low, high = (0, 1 << content) if kind == "uint" else (-(1 << content - 1), 1 << content - 1)
        return type(value) is int and low <= value < high
    if kind == "float":
        return isinstance(value, float)
    if kind == "option":
        return value is None or fits(value, content, enclosing)
    if kind == "seq":
        return isinstance(value, list) and all(fits(item, content, enclosing) for item in value)
    if kind == "map":
        return isinstance(value, dict) and all(
            fits(key, content[0], enclosing) and fits(item, content[1], enclosing) for key, item in value.items())
    if kind == "tuple":
        if len(content) == 1 and not isinstance(value, list):
            return fits(value, content[0], enclosing)
        return isinstance(value, list) and len(value) == len(content) and all(
            fits(item, part, enclosing) for item, part in zip(value, content))
    inside = (*enclosing, shape)
    if kind == "struct":
        return isinstance(value, dict) and all(
            fits(value[field["name"]], field["shape"], inside) if field["name"] in value else field["optional"]
            for field in content["fields"])
    if kind == "enum":
        variants = {variant["name"]: variant["shape"] for variant in content["variants"]}
        if isinstance(value, str):
            return variants.get(value) == "unit"
        return isinstance(value, dict) and len(value) == 1 and all(
            name in variants and fits(item, variants[name], inside) for name, item in value.items())
    if kind == "recursive":
        return any(fits(value, outer, enclosing) for outer in enclosing if next(iter(outer.values()))["name"] == content)
    return kind == "opaque"


def readable_value(payload):
    return plain(msgpack.unpackb(payload, raw=False, strict_map_key=False))


def row_line(key, value, catalog):
    """A row, decoded as far as the page tells how."""
    cursor = Cursor(key)
    space, group = cursor.u8(), cursor.number("H", ">")
    out = {"space": SPACES.get(space), "group": group, "key": key.hex(), "raw": value.hex()}
    need(out["space"], f"a row of space {space:02x}")
    names = catalog.names
    if space in (0x20, 0x60):
        if space == 0x20:
            out["dueMs"] = cursor.number("Q", ">")
        out["number"] = cursor.number("Q", ">")
        content = Cursor(value)
        front = content.take(content.u32())
        out["tokenKey" if space == 0x20 else "reason"] = front.hex() if space == 0x20 else front.decode()
        out["message"] = envelope(content, names)
        need(not content and not cursor, "bytes behind a message")
        # A timer is its sender's, a dead letter whose it was.
        owner = out["message"]["from" if space == 0x20 else "to"]
        need(catalog.group_of(owner["function"], owner["id"]) == group, "the key group of a message")
        return out
    function, identity = cursor.number("I", ">"), cursor.escaped().decode()
    out["function"], out["id"] = names.get(function, f"{function:08x}"), identity
    if function in names:
        need(catalog.group_of(names[function], identity) == group, "the key group of an address")
    if space == 0x10:
        number = cursor.number("I", ">")
        found = catalog.states.get((function, number))
        if found:
            out["state"] = found[0]
            state_row(cursor, value, found[1], out)
            known = found[1]["kind"] == "registry" or int(out["schema"], 16) in catalog.schemas[function, number]
            need(known, f"the schema id of {found[0]}")
        else:
            out["state"] = f"{number:08x}"
    elif space == 0x21:
        out["token"], out["timer"] = cursor.escaped().decode(), value.hex()
    elif space == 0x30:
        out["value"] = readable_value(value)
    elif space in (0x31, 0x40):
        out["number"] = cursor.number("Q", ">")
        content = Cursor(value)
        out["message"] = envelope(content, names)
        need(not content, "bytes behind a message")
    elif space == 0x50:
        own = Cursor(identity.encode())
        out["ingress"], out["partition"] = own.escaped().decode(), own.rest().decode()
        out["position"] = value.hex()
    need(not cursor, "bytes behind a key")
    return out


# Checkpoints ---------------------------------------------------------------------------------------------------------


class Bucket:
    def __init__(self, root):
        self.root = root

    def get(self, name):
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def checked(self, stated):
        data = self.get(stated["object"])
        need(checksum(data) == int(stated["checksum"], 16), f"the checksum of {stated['object']}")
        need(len(data) == stated["bytes"], f"the length of {stated['object']}")
        return data

    def json(self, name, data):
        found = json.loads(data)
        need(found["version"] == VERSION, f"{name} has version {found['version']}")
        return found


def find(manifest, wanted):
    entries = manifest["checkpoints"]
    if wanted == "latest":
        return entries[-1]
    named = [entry for entry in reversed(entries) if entry.get("name") == wanted]
    named += [entry for entry in entries if entry["id"] == wanted]
    need(named, f"there is no checkpoint `{wanted}`")
    return named[0]


def merged(bucket, descriptor):
    """The rows that count."""
    epochs = {}
    for base in descriptor["bases"]:
        for group in range(base["firstGroup"], base["lastGroup"] + 1):
            need(group not in epochs, "two bases of a key group")
            epochs[group] = base["epoch"]
    need(len(epochs) == descriptor["keyGroups"], "key groups without a base")
    rows = {}
    for base in descriptor["bases"]:
        last = b""
        for part in base["parts"]:
            for key, value in part_rows(bucket.get(part["object"]), part):
                need(key > last, "parts out of order")
                need(key[0] in base["spaces"], "a space that a base does not name")
                need(value is not None, "a delete in a base")
                last = key
                if base["firstGroup"] <= int.from_bytes(key[1:3], "big") <= base["lastGroup"]:
                    rows[key] = value
    for delta in descriptor["deltas"]:
        for part in delta["parts"]:
            for key, value in part_rows(bucket.get(part["object"]), part):
                if delta["epoch"] > epochs[int.from_bytes(key[1:3], "big")]:
                    put(rows, key, value)
    return rows


def put(rows, key, value):
    if value is None:
        rows.pop(key, None)
    else:
        rows[key] = value


def links(bucket, lineage):
    """The chain of a lineage: (kind, epoch before, last epoch, bodies)."""
    folder = os.path.join(bucket.root, "epochs", lineage)
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
        if "#" in name:
            continue
        data = bucket.get(f"epochs/{lineage}/{name}")
        need(data[:4] == b"SFEP", f"the magic of {name}")
        version, kind, own, sequence, _, _, after, last, length, stated = struct.unpack_from("<HHQQQQQQQQ", data, 4)
        need(version == VERSION, f"{name} has version {version}")
        need(checksum(data[:64], data[72:]) == stated, f"the checksum of {name}")
        need((own, sequence) == (int(lineage, 16), int(name)), f"the place of {name}")
        bodies = Cursor(unpacked(data[72:]))
        need(len(bodies.data) == length, f"the length of {name}")
        found = []
        while bodies:
            found.append(bodies.take(bodies.u64()))
        need(len(found) == last - after, f"the number of epochs of {name}")
        yield kind, after, last, found


def read_checkpoint(root, wanted, behind):
    bucket = Bucket(root)
    manifest = bucket.json("manifest.json", bucket.get("manifest.json"))
    entry = find(manifest, wanted)
    data = bucket.get(entry["object"])
    need(checksum(data) == int(entry["checksum"], 16), "the checksum of a descriptor")
    descriptor = bucket.json(entry["object"], data)
    need(all(descriptor[field] == entry[field] for field in ("id", "lineage", "epoch")), "a descriptor of another checkpoint")
    catalog = Catalog(descriptor["catalog"])
    need(catalog.groups == descriptor["keyGroups"], "the number of key groups")
    rows = merged(bucket, descriptor)
    tail, epoch = descriptor["tail"], descriptor["epoch"]
    carried = unpacked(bucket.checked(tail["carried"])) if "carried" in tail else b""
    sinks = [{**sink, "position": text_bytes(sink["position"]).hex()} for sink in tail["sinks"]]
    egress = []
    for stated in tail["egress"]:
        cursor = Cursor(unpacked(bucket.checked(stated)))
        while cursor:
            number, length = cursor.u64(), cursor.u32()
            need(stated["afterEpoch"] < number <= stated["epoch"], "output of another epoch")
            egress += egress_records(cursor.take(length), catalog.egresses, number)
    kinds = []
    if behind:
        need(entry is manifest["checkpoints"][-1], "only the latest checkpoint has epochs behind it")
        for kind, after, last, bodies in links(bucket, entry["lineage"]):
            kinds.append({1: "epochs", 2: "start", 3: "seal"}[kind])
            for number, data in enumerate(bodies, after + 1):
                if number <= epoch:
                    continue
                need(number == epoch + 1, "epochs are missing")
                body, epoch = epoch_body(data), number
                for key, value in body["rows"]:
                    put(rows, key, value)
                carried, sinks = body["carried"], body["sinks"]
                egress += egress_records(body["egress"], catalog.egresses, number)
    through = {sink["egress"]: sink["throughEpoch"] for sink in sinks}
    egress = [record for record in egress if record["epoch"] > through.get(record["egress"], 0)]
    spaces = {}
    for key in sorted(rows):
        line = row_line(key, rows[key], catalog)
        spaces[line["space"]] = spaces.get(line["space"], 0) + 1
        yield line
    yield {"summary": {
        "id": entry["id"], "name": entry.get("name"), "lineage": entry["lineage"], "epoch": epoch, "rows": spaces, "sinks": sinks,
        "carried": len(envelopes(carried, catalog.names)), "carriedMessages": envelopes(carried, catalog.names),
        "egress": egress, "links": kinds,
    }}


# The log -------------------------------------------------------------------------------------------------------------


def log_records(root):
    """The records of a log: (kind, segment, offset, lineage, attempt, epoch, body)."""
    segments = sorted(name for name in os.listdir(root) if name.endswith(".log") and len(name) == 24)
    numbers = [int(name[:20]) for name in segments]
    need(numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, "a segment is missing")
    before = None
    for segment, name in zip(numbers, segments):
        with open(os.path.join(root, name), "rb") as file:
            data = file.read()
        need(len(data) % 512 == 0, "the length of a segment")
        at = 0
        while at + 72 <= len(data) and data[at : at + 4] == b"SFEL":
            version, kind, length, place, offset, lineage, attempt, epoch, previous, stated = struct.unpack_from(
                "<HHQQQQQQQQ", data, at + 4)
            body = data[at + 72 : at + 72 + length]
            if (place, offset) != (segment, at) or checksum(data[at : at + 64], body) != stated:
                break
            need(version == VERSION and kind in (1, 2), f"a record of version {version}, kind {kind}")
            if before:
                last_attempt, last_epoch, last_sum, last_lineage = before
                follows = (last_attempt, last_epoch + 1) if kind == 2 else (last_attempt + 1, last_epoch)
                if (attempt, epoch, previous) != (*follows, last_sum):
                    break
                need(lineage == last_lineage, "a record of another lineage")
            before = (attempt, epoch, stated, lineage)
            yield kind, segment, at, lineage, attempt, epoch, body
            at = (at + 72 + length + 511) & ~511


def read_log(root, catalog_path):
    catalog = None
    if catalog_path:
        with open(catalog_path, "rb") as file:
            catalog = Catalog(json.load(file))
    names, egresses = (catalog.names, catalog.egresses) if catalog else ({}, {})
    epochs, attempts, last, lineage = [], 0, None, None
    for kind, segment, offset, lineage, attempt, epoch, body in log_records(root):
        line = {
            "kind": "epoch" if kind == 2 else "attempt", "segment": segment, "offset": offset, "attempt": attempt, "epoch": epoch,
            "bytes": len(body), "checksum": f"{checksum(body):016x}",
        }
        if kind == 2:
            last = epoch_body(body)
            epochs.append(epoch)
            rows = [row_line(key, value, catalog) if catalog and value is not None
                    else {"key": key.hex(), "raw": None if value is None else value.hex()} for key, value in last["rows"]]
            line.update(
                timeMs=last["time"], sinks=last["sinks"], rows=rows, carried=envelopes(last["carried"], names),
                egress=egress_records(last["egress"], egresses, epoch))
        else:
            attempts += 1
        yield line
    yield {"summary": {
        "lineage": None if lineage is None else f"{lineage:016x}", "attempts": attempts, "epochs": len(epochs),
        "firstEpoch": epochs[0] if epochs else None, "lastEpoch": epochs[-1] if epochs else None,
        "sinks": last["sinks"] if last else [], "carried": len(envelopes(last["carried"], names)) if last else 0,
    }}


def main(arguments):
    behind = "--behind" in arguments
    arguments = [argument for argument in arguments if argument != "--behind"]
    if len(arguments) in (2, 3) and arguments[0] == "checkpoint":
        lines = read_checkpoint(arguments[1], arguments[2] if arguments[2:] else "latest", behind)
    elif len(arguments) in (2, 3) and arguments[0] == "log":
        lines = read_log(arguments[1], arguments[2] if arguments[2:] else None)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for line in lines:
            print(json.dumps(line, ensure_ascii=False))
    except Damaged as problem:
        print(f"damaged, or newer than this reader: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
