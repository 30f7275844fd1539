/** What applications and operators do: targets leave and return, a VIP is added, the last target goes. */
import { Effect } from "effect"
import * as fs from "node:fs"
import { parseAllDocuments } from "yaml"
import * as Cidr from "../../../core/net/Cidr.ts"
import * as Ip from "../../../core/net/Ip.ts"
import { eventually } from "../Eventually.ts"
import * as Host from "../Host.ts"
import * as Lab from "../Lab.ts"
import * as Manifests from "../Manifests.ts"
import * as Router from "../Router.ts"
import type { Service } from "../Topology.ts"
import type { Trench } from "../Trench.ts"
import * as Check from "./Check.ts"

const noService = (trench: Trench): string | undefined =>
  Check.anyService(trench) === undefined ? "no flow takes TCP or UDP" : undefined

const streamOf = (trench: Trench, { conduit, stream }: Service) => ({ trench: trench.layout.trench, conduit, stream })

const heldConnections = 80
const noticeMs = 2_000

const targetLeaves: Check.Check = {
  name: "target-leaves",
  leftOut: (trench) => trench.targets.length < 2 ? "there is only one target" : noService(trench),
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const [leaving, ...staying] = trench.targets
      const service = Check.anyService(trench)
      if (leaving === undefined || service === undefined) return "nothing to leave"
      const held = service.protocol === "tcp"
        ? yield* Check.holdSteady(trench, service, heldConnections)
        : undefined
      yield* leaving.close(streamOf(trench, service))
      const names = staying.map(({ name }) => name)
      yield* eventually(
        Effect.map(Check.send(trench, service, 40), (answer) =>
          answer.replies[leaving.name] === undefined && answer.lost === 0
            ? undefined
            : `${leaving.name} still gets connections, or some are lost`),
        noticeMs
      )
      const after = yield* Check.send(trench, service, Check.sampleSize(names.length))
      const complaint = Check.unevenness(after, names)
      if (complaint !== undefined) {
        return yield* Check.fail(complaint)
      }
      if (held === undefined) {
        return Check.shares(after)
      }
      const probed = yield* trench.traffic.probe(held)
      yield* trench.traffic.drop(held)
      const moved = names.find((name) =>
        probed.replies[name] !== held.replies[name]
      )
      if (moved !== undefined) {
        return yield* Check.fail(
          `${moved} keeps ${probed.replies[moved] ?? 0} of its ${held.replies[moved] ?? 0} connections: ${
            probed.errors.join(", ")
          }`
        )
      }
      return `${leaving.name} gets nothing; ${
        names.map((name) => `${name} keeps ${held.replies[name] ?? 0}`).join(", ")
      }`
    })
}

const targetReturns: Check.Check = {
  name: "target-returns",
  leftOut: targetLeaves.leftOut,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const service = Check.anyService(trench)
      if (service === undefined) return "nothing to return to"
      yield* trench.targets[0]?.open(streamOf(trench, service)) ?? Effect.void
      return Check.shares(yield* Check.served(trench, service, Check.names(trench), 30_000))
    })
}

const newVip: Check.Check = {
  name: "new-vip",
  leftOut: noService,
  run: (lab, trench) =>
    Effect.gen(function*() {
      const service = trench.layout.services.find(({ port, targetPort }) => port === targetPort) ??
        Check.anyService(trench)
      if (service === undefined) return "nothing to add a VIP to"
      const vip = unusedVip(trench, service)
      yield* addVip(lab, trench, service, vip)
      if (Check.announcedVips(trench).includes(service.vip.address)) {
        yield* eventually(Check.announcement(trench, [vip], "all"), 30_000)
      } else {
        yield* routeByHand(trench, service, vip)
      }
      const added = { ...service, vip: { name: vipName(trench), address: vip } }
      const answer = yield* Check.served(trench, added, Check.names(trench), 30_000)
      return `${Cidr.ip(vip)}: ${Check.shares(answer)}`
    })
}

const vipName = ({ layout }: Trench): string => `sluice-lab-new-${layout.trench}`

/** The first address after the service's VIP that no VIP has. */
const unusedVip = (trench: Trench, { vip }: Service): Cidr.Cidr => {
  const used = trench.layout.configuration.vips.map(({ address }) => address)
  let n = Ip.toBigInt(Cidr.ip(vip.address))
  while (true) {
    n += 1n
    const candidate = Cidr.host(Ip.fromBigInt(Cidr.family(vip.address), n))
    if (!used.some((address) => Cidr.overlaps(address, candidate))) return candidate
  }
}

/** Does what an operator would: adds a Vip, names it in the flow of the service and where the service's VIP is attracted. */
const addVip = (lab: Lab.Lab, trench: Trench, service: Service, address: Cidr.Cidr): Effect.Effect<void> =>
  Effect.sync(() => {
    const { namespace, trench: name } = trench.layout
    const vip = {
      apiVersion: "meridio.nordix.org/v1",
      kind: "Vip",
      metadata: { name: vipName(trench), namespace, labels: { trench: name } },
      spec: { address }
    }
    const attracts = trench.layout.frontends
      .map(({ attractor }) => attractor)
      .find(({ vips }) => vips.some((one) => one.name === service.vip.name))?.name
    const concerned = new Set([`Attractor ${attracts}`, `Flow ${service.flow}`])
    const parsed = parseAllDocuments(fs.readFileSync(lab.manifestFile, "utf8"))
    const documents = Array.isArray(parsed) ? parsed : []
    for (const document of documents) {
      const ours = document.getIn(["metadata", "labels", "trench"]) === name &&
        (document.getIn(["metadata", "namespace"]) ?? "default") === namespace
      const object = `${String(document.get("kind"))} ${String(document.getIn(["metadata", "name"]))}`
      if (ours && concerned.has(object)) document.addIn(["spec", "vips"], vip.metadata.name)
    }
    const text = Manifests.render([...documents.map((document): unknown => document.toJS()), vip])
    fs.writeFileSync(`${lab.manifestFile}.new`, text)
    fs.renameSync(`${lab.manifestFile}.new`, lab.manifestFile)
  })

/** A static gateway learns nothing: its operator adds the route, over every frontend of the attractor. */
const routeByHand = (trench: Trench, service: Service, vip: Cidr.Cidr): Effect.Effect<void, Host.HostError> => {
  const hops = Router.peers(trench.layout)
    .filter(({ vips }) => vips.includes(service.vip.address))
    .flatMap(({ bridge, remote }) => ["nexthop", "via", remote, "dev", bridge])
  return Host.ip([["route", "replace", vip, ...hops]], trench.gateway.namespace)
}

const noTargets: Check.Check = {
  name: "no-targets-no-announcement",
  leftOut: (trench) => Check.announcedVips(trench).length === 0 ? "no VIP is announced by BGP" : undefined,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const { streams } = trench.layout.configuration
      yield* Effect.forEach(
        trench.targets,
        (target) => Effect.forEach(streams, target.close, { discard: true }),
        { concurrency: "unbounded", discard: true }
      )
      yield* eventually(Check.announcement(trench, Check.announcedVips(trench), "none"), 30_000)
      yield* Lab.openAll(trench).pipe(Effect.catchTag("NotInTime", ({ detail }) => Check.fail(detail)))
      yield* Check.allRight(trench, 30_000)
      return "withdrawn with the last target, announced with the first"
    })
}

export const checks: ReadonlyArray<Check.Check> = [targetLeaves, targetReturns, newVip, noTargets]
