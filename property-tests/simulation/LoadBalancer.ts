/** A load balancer in a simulated world, as `shells/loadbalancer`: in the pod of a frontend. */
import type * as Config from "../../core/config/Model.ts"
import type * as Target from "../../core/config/Target.ts"
import { LoadBalancer, type Model, Routes } from "../../core/loadbalancer/index.ts"
import * as Memo from "../../core/Memo.ts"
import { Configuration } from "../../core/nsp/index.ts"
import * as Same from "../../core/Same.ts"
import * as Actor from "./Actor.ts"
import type * as Api from "./Api.ts"
import * as Endpoint from "./Endpoint.ts"
import { applyAll, follow, type Ground } from "./Ground.ts"
import type { Life, Program } from "./World.ts"

export interface Options {
  readonly name: string
  /** Of the pod. */
  readonly hostname: string
  readonly namespace: string
  readonly trench: string
  readonly conduit: string
  readonly netns: string
  readonly nsp: string
  /** Hears of new rules, with those before. */
  readonly onRules: (before: Model.Ruleset | undefined, after: Model.Ruleset) => void
}

export interface LoadBalancerProgram extends Program {
  readonly netns: string
  readonly state: () => LoadBalancer.State | undefined
  /** The rules that nftables holds; they outlive the process. */
  readonly rules: () => Model.Ruleset | undefined
}

type Event = LoadBalancer.Event
type Command = LoadBalancer.Command

const offsetStart = 5_000
const offsetEnd = 1_000_000
const noticeMs = 20

export const make = (ground: Ground, options: Options): LoadBalancerProgram => {
  const { kernels, machines, observe, world } = ground
  const { conduit, hostname, name, namespace, netns, trench } = options
  const service = `${conduit}.${trench}.${namespace}`
  let actor: Actor.Actor<LoadBalancer.State, Event> | undefined
  let rules: Model.Ruleset | undefined

  const boot: Program["boot"] = (life) => {
    let stopServing: ((done: () => void) => void) | undefined
    const running = Actor.start(world, life, observe, machines.loadBalancer, {
      conduit: { trench, conduit },
      hostname,
      offsetStart,
      offsetEnd,
      table: "sluice-lb",
      linkPrefix: `${service.slice(0, 10)}-`
    }, (command: Command, send: (event: Event) => void): Actor.Stop => {
      const { call } = command
      switch (command._tag) {
        case "ReadKernel":
          return life.later(1, () =>
            send(
              life.isBroken() && life.draw(0, 3) === 0
                ? { _tag: "ReadFailed", call, reason: "no buffer space" }
                : { _tag: "ReadSucceeded", call, snapshot: relevant(kernels.get(netns)) }
            ))
        case "ApplyOperations":
          return life.later(1, () => {
            const isDone = applyAll(ground, life, netns, command.operations)
            send(isDone ? { _tag: "OperationsSucceeded", call } : { _tag: "OperationsFailed", call, reason: "busy" })
          })
        case "ApplyRules": {
          const { after, before } = command
          return life.later(life.draw(1, 20), () => {
            // The script tells the difference: against other rules than it was made for it fails.
            if (before !== undefined && !Same.equals(before, rules)) {
              return send({ _tag: "RulesFailed", call, reason: "the rules are others" })
            }
            if (life.isBroken()) return send({ _tag: "RulesFailed", call, reason: "busy" })
            options.onRules(rules, after)
            rules = after
            kernels.guard(netns, after.guard)
            send({ _tag: "RulesSucceeded", call })
          })
        }
        case "ServeEndpoint":
          if (life.isBroken()) return life.later(1, () => send({ _tag: "EndpointFailed", call, reason: "no socket" }))
          stopServing = Endpoint.serve(
            ground,
            life,
            { name: hostname, netns, service: { name: service, payload: "ETHERNET", matches: [] }, labels: {} },
            {
              request: (connection, done) => {
                done(connection)
                return () => undefined
              },
              close: () => undefined
            }
          )
          return life.later(1, () => send({ _tag: "EndpointServed", call }))
        case "StopEndpoint":
          return stopServing === undefined
            ? life.later(1, () => send({ _tag: "EndpointStopped", call }))
            : stopServing(() => send({ _tag: "EndpointStopped", call }))
      }
    })
    actor = running
    life.shutdown = (done) => {
      running.follow((state) => LoadBalancer.isClosed(state) && life.later(0, done))
      running.send({ _tag: "CloseRequested" })
      if (LoadBalancer.isClosed(running.current())) done()
    }
    life.api = { ...life.api, availability: { watch: (emit) => availability(running, emit) } }
    listen(ground, life, options, running.send)
  }

  return {
    name,
    netns,
    boot,
    rules: () => rules,
    state: () => world.isAlive(name) ? actor?.current() : undefined
  }
}

/** A kernel that did not change is read as the same value. */
const relevant = Memo.each(Routes.relevant)

const availability = (
  actor: Actor.Actor<LoadBalancer.State, Event>,
  emit: (forwarding: boolean) => void
): Api.Leave => {
  let last = LoadBalancer.isAvailable(actor.current())
  emit(last)
  return actor.follow((state) => {
    const next = LoadBalancer.isAvailable(state)
    if (next === last) return
    last = next
    emit(next)
  })
}

/** What the load balancer hears, as `shells/loadbalancer/Sources.ts`. */
const listen = (
  ground: Ground,
  life: Life,
  { conduit, netns, nsp, trench }: Options,
  send: (event: Event) => void
): void => {
  const hear = (news: (all: Config.Configuration) => Event): void =>
    follow<Event>(ground, life, nsp, ({ nsp }, emit) => nsp?.watch(news, emit), send)
  hear((all) => ({ _tag: "VipsChanged", vips: Configuration.vips(all, { trench }) }))
  hear((all) => ({
    _tag: "PortNatsChanged",
    portNats: Configuration.conduits(all, { trench, name: conduit })[0]?.portNats ?? []
  }))
  hear((all) => ({ _tag: "StreamsChanged", streams: Configuration.streams(all, { trench, conduit }) }))
  hear((all) => ({ _tag: "FlowsChanged", flows: Configuration.flows(all, { trench, conduit }) }))
  follow<ReadonlyArray<Target.Target>>(
    ground,
    life,
    nsp,
    ({ nsp }, emit) =>
      nsp?.watchTargets({ kind: "default", status: "enabled", stream: { trench, conduit, stream: "" } }, emit),
    (targets) => send({ _tag: "TargetsChanged", targets })
  )
  follow<ReadonlyArray<Target.Target>>(
    ground,
    life,
    nsp,
    ({ nsp }, emit) => nsp?.watchTargets({ kind: "frontend", status: "any" }, emit),
    (targets) =>
      send({
        _tag: "FrontendsChanged",
        frontends: targets.flatMap(({ context }) => context["identifier"] ?? [])
      })
  )
  let isNoticed = false
  const stop = ground.kernels.follow(netns, () => {
    if (!life.isAlive()) return stop()
    if (isNoticed) return
    isNoticed = true
    life.later(noticeMs, () => {
      isNoticed = false
      send({ _tag: "KernelChanged" })
    })
  })
}
