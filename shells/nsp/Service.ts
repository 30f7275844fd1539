/** The NSP at work: `ConfigurationManager`, `TargetRegistry` and health over one TCP port. */
import { Effect, Result, Stream } from "effect"
import type { Scope } from "effect"
import type { Model, Target } from "../../core/config/index.ts"
import * as Memo from "../../core/Memo.ts"
import { Configuration, Registry } from "../../core/nsp/index.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import type { Target as TargetMessage } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import type * as Definition from "../grpc/Definition.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Kubernetes from "../kubernetes/Kubernetes.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Identity from "../spiffe/Identity.ts"
import type { Config } from "./Config.ts"
import * as ConfigMaps from "./ConfigMaps.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Manifests from "./Manifests.ts"
import * as Shared from "./Shared.ts"
import * as Store from "./Store.ts"
import * as TargetWire from "./TargetWire.ts"
import * as Watchers from "./Watchers.ts"
import * as Wire from "./Wire.ts"

/** Serves until the scope closes; gives the server with its port. */
export const start = (settings: Config) =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    const store = yield* Store.open(settings.datasource)
    const registry = yield* startRegistry(store, settings.entryTimeoutMs)
    const configurations = yield* follow(settings)
    return yield* Server.serve({
      address: `:${settings.port}`,
      services: [configurationManager(configurations), targetRegistry(registry), Health.service(health)],
      ...(yield* Identity.credentials)
    })
  })

/** The configuration from where the settings say: files if they name any, else Kubernetes. */
const follow = ({ configMapName, configPath, namespace, trench }: Config) =>
  configPath !== ""
    ? Manifests.follow({ path: configPath, trench, namespace })
    : Kubernetes.connect.pipe(
      Effect.mapError(({ details, reason }) =>
        new Kubernetes.KubernetesError({ reason, details: `${details}; or set NSP_CONFIG_PATH to read manifests` })
      ),
      Effect.flatMap((kubernetes) => ConfigMaps.follow(kubernetes, { name: configMapName, trench, namespace }))
    )

/** What the gRPC service needs of the registry. */
interface Targets {
  readonly register: (target: Target.Target) => Effect.Effect<void>
  readonly unregister: (target: Target.Target) => Effect.Effect<void>
  readonly watch: (filter: Registry.Filter) => Stream.Stream<ReadonlyArray<Target.Target>>
}

const startRegistry = (store: Store.Store, entryTimeoutMs: number): Effect.Effect<Targets, never, Scope.Scope> =>
  Effect.gen(function*() {
    const watchers = Watchers.make()
    const replies = Replies.make<void>()
    const list = Shared.make(Registry.targets)
    const { current, send } = yield* Runner.start(Registry.machine, {
      input: { settings: { entryTimeoutMs }, stored: store.stored },
      perform: Interpreter.interpret({ store, watchers, replies })
    })
    return {
      register: (target) => replies.ask((reply) => send({ _tag: "RegisterRequested", reply, target })),
      unregister: (target) => replies.ask((reply) => send({ _tag: "UnregisterRequested", reply, target })),
      watch: (filter) => watchers.watch(filter, () => list(current(), filter))
    }
  })

const valid = <A>(result: Result.Result<A, string>): Effect.Effect<A, GrpcError.GrpcError> =>
  Effect.mapError(Effect.fromResult(result), (details) => GrpcError.error("InvalidArgument", details))

const targetRegistry = ({ register, unregister, watch }: Targets) =>
  Server.service(TargetRegistryDefinition, {
    register: (message) => Effect.as(Effect.flatMap(valid(TargetWire.target(message)), register), {}),
    unregister: (message) => Effect.as(Effect.flatMap(valid(TargetWire.leaver(message)), unregister), {}),
    watch: (message) =>
      Stream.unwrap(Effect.map(valid(TargetWire.filter(message)), watch)).pipe(
        Stream.map(toTargetResponse)
      )
  })

const toTargetResponse = Memo.each((
  targets: ReadonlyArray<Target.Target>
): { readonly targets: ReadonlyArray<TargetMessage> } => ({ targets: targets.map(TargetWire.toTarget) }))

type Manager = typeof ConfigurationManagerDefinition
type Requests = { readonly [K in keyof Manager["methods"]]: Definition.Request<Manager, K> }

const configurationManager = (configurations: Stream.Stream<Model.Configuration>) => {
  // An answer is repeated only when it differs: most changes concern few of the watchers.
  const answers = <Request, A extends object>(
    answer: (configuration: Model.Configuration, request: Request) => A
  ): (request: Request) => Stream.Stream<A> => {
    const shared = Shared.make(answer)
    return (request) => Stream.changes(Stream.map(configurations, (all) => shared(all, request)))
  }
  const { selectors } = Wire
  return Server.service(ConfigurationManagerDefinition, {
    watchTrench: answers((all, request: Requests["watchTrench"]) => {
      const [trench] = Configuration.trenches(all, selectors.trench(request))
      return { trench: trench === undefined ? undefined : Wire.toTrench(trench) }
    }),
    watchConduit: answers((all, request: Requests["watchConduit"]) => ({
      conduits: Configuration.conduits(all, selectors.conduit(request)).map(Wire.toConduit)
    })),
    watchStream: answers((all, request: Requests["watchStream"]) => ({
      streams: Configuration.streams(all, selectors.stream(request)).map(Wire.toStream(all))
    })),
    watchFlow: answers((all, request: Requests["watchFlow"]) => ({
      flows: Configuration.flows(all, selectors.flow(request)).map(Wire.toFlow(all))
    })),
    watchVip: answers((all, request: Requests["watchVip"]) => ({
      vips: Configuration.vips(all, selectors.ofTrench(request)).map(Wire.toVip(all.trench))
    })),
    watchAttractor: answers((all, request: Requests["watchAttractor"]) => ({
      attractors: Configuration.attractors(all, selectors.ofTrench(request)).map(Wire.toAttractor(all.trench))
    })),
    watchGateway: answers((all, request: Requests["watchGateway"]) => ({
      gateways: Configuration.gateways(all, selectors.ofTrench(request)).map(Wire.toGateway(all.trench))
    }))
  })
}
