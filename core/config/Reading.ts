/**
 * From parsed YAML documents (whatever they are) to well-formed objects. Each mistake of a field is reported; kinds that
 * do not configure a trench are passed over and listed.
 *
 * As in Kubernetes a field with the value null counts as absent, `kind: List` stands for its items, and the namespace
 * is `default` when none is given. Unlike Kubernetes an unknown field is a mistake: it is nearly always a misspelt one.
 */
import { Result, Schema, SchemaIssue } from "effect"
import * as Problem from "./Problem.ts"
import { Metadata, Resource, WholeAttractor } from "./Resource.ts"

/** What the documents hold. */
export interface Reading {
  readonly resources: ReadonlyArray<Resource>
  /** Objects of other kinds, for example `apps/v1 Deployment default/web`. */
  readonly ignored: ReadonlyArray<string>
  readonly problems: ReadonlyArray<Problem.Problem>
}

const groups: { readonly [group: string]: ReadonlyArray<string> } = {
  "meridio.nordix.org": ["v1", "v1alpha1"],
  "k8s.cni.cncf.io": ["v1"]
}

/**
 * How much the documents say: everything that their author has to, or only what an NSP serves (`served`; an attractor
 * then needs no interface).
 */
export type Extent = "everything" | "served"

/** Reads all documents. */
export const read = (documents: ReadonlyArray<unknown>, extent: Extent = "everything"): Reading => {
  const resources: Array<Resource> = []
  const ignored: Array<string> = []
  const problems: Array<Problem.Problem> = []
  for (const [index, document] of documents.flatMap(items).entries()) {
    const one = object(withoutNulls(document), index, extent)
    resources.push(...one.resources)
    ignored.push(...one.ignored)
    problems.push(...one.problems)
  }
  return { resources, ignored, problems }
}

const Envelope = Schema.Struct({
  apiVersion: Schema.NonEmptyString,
  kind: Schema.NonEmptyString,
  metadata: Schema.Unknown,
  spec: Schema.optionalKey(Schema.Unknown)
})

const all = { errors: "all" } as const
const decodeEnvelope = Schema.decodeUnknownResult(Envelope, all)
const decodeMetadata = Schema.decodeUnknownResult(Metadata, all)
const isList = Schema.is(Schema.Struct({ kind: Schema.Literal("List"), items: Schema.Array(Schema.Unknown) }))
const isNamed = Schema.is(Schema.Struct({ name: Schema.String }))
const isNamespaced = Schema.is(Schema.Struct({ namespace: Schema.String }))

const items = (document: unknown): ReadonlyArray<unknown> =>
  document === null || document === undefined ? [] : isList(document) ? document.items.flatMap(items) : [document]

const object = (document: unknown, index: number, extent: Extent): Reading => {
  const envelope = decodeEnvelope(document)
  if (Result.isFailure(envelope)) {
    const nameless = { kind: "document", namespace: "-", name: `number ${index + 1}` }
    return failed(problemsOf(nameless, document, envelope.failure.issue))
  }
  const { apiVersion, kind, metadata, spec } = envelope.success
  const [group = "", version = ""] = apiVersion.split("/")
  const reference = {
    kind,
    namespace: isNamespaced(metadata) ? metadata.namespace : "default",
    name: isNamed(metadata) ? metadata.name : `number ${index + 1}`
  }
  const decode = Object.hasOwn(groups, group) ? decoderOf(kind, extent) : undefined
  if (decode === undefined || (kind === "NetworkAttachmentDefinition") !== (group === "k8s.cni.cncf.io")) {
    return { resources: [], problems: [], ignored: [`${apiVersion} ${kind} ${reference.namespace}/${reference.name}`] }
  }
  if (groups[group]?.includes(version) !== true) {
    const known = groups[group]?.map((version) => `${group}/${version}`).join(" or ")
    return failed([Problem.make(reference, "apiVersion", apiVersion, `expected ${known}`)])
  }
  const meta = decodeMetadata(metadata)
  if (Result.isFailure(meta)) return failed(problemsOf(reference, { metadata }, meta.failure.issue, ["metadata"]))
  const { labels, name, namespace = "default" } = meta.success
  const candidate = { _tag: kind, namespace, name, ...trenchOf(labels), spec: spec ?? {} }
  const resource = decode(candidate)
  return Result.isFailure(resource)
    ? failed(problemsOf(reference, candidate, resource.failure.issue))
    : { resources: [resource.success], ignored: [], problems: [] }
}

const trenchOf = (labels: { readonly [label: string]: string } | undefined) => {
  const trench = labels?.["trench"]
  return trench === undefined ? {} : { trench }
}

const failed = (problems: ReadonlyArray<Problem.Problem>): Reading => ({ resources: [], ignored: [], problems })

type Decode = (candidate: unknown) => Result.Result<Resource, Schema.SchemaError>

const strict = { errors: "all", onExcessProperty: "error" } as const

const decoders: { readonly [Kind in Resource["_tag"]]: Decode } = {
  Trench: Schema.decodeUnknownResult(Resource.cases.Trench, strict),
  Conduit: Schema.decodeUnknownResult(Resource.cases.Conduit, strict),
  Stream: Schema.decodeUnknownResult(Resource.cases.Stream, strict),
  Flow: Schema.decodeUnknownResult(Resource.cases.Flow, strict),
  Vip: Schema.decodeUnknownResult(Resource.cases.Vip, strict),
  Attractor: Schema.decodeUnknownResult(Resource.cases.Attractor, strict),
  Gateway: Schema.decodeUnknownResult(Resource.cases.Gateway, strict),
  NetworkAttachmentDefinition: Schema.decodeUnknownResult(Resource.cases.NetworkAttachmentDefinition, strict)
}

const wholeAttractor: Decode = Schema.decodeUnknownResult(WholeAttractor, strict)

const decoderOf = (kind: string, extent: Extent): Decode | undefined =>
  kind === "Attractor" && extent === "everything"
    ? wholeAttractor
    : Object.entries(decoders).find(([known]) => known === kind)?.[1]

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    switch (issue._tag) {
      case "MissingKey":
        return "this field is required"
      case "UnexpectedKey":
        return "there is no such field; correct its name or remove it"
      default:
        return lowerFirst(SchemaIssue.defaultLeafHook(issue))
    }
  }
})

type Path = ReadonlyArray<PropertyKey>

/** The mistakes that a decoder found, with the values as they stand in `root`. */
export const problemsOf = (
  reference: Problem.Reference,
  root: unknown,
  issue: SchemaIssue.Issue,
  prefix: Path = []
): ReadonlyArray<Problem.Problem> =>
  formatIssue(issue).issues.map(({ message, path = [] }) => {
    const keys = [...prefix, ...path.map((key) => (typeof key === "object" ? key.key : key))]
    return Problem.make(reference, pathText(keys), valueAt(root, keys), lowerFirst(message))
  })

const pathText = (path: Path): string =>
  path.length === 0 ?
    "it" :
    path.map((key, index) => (typeof key === "number" ? `[${key}]` : `${index === 0 ? "" : "."}${String(key)}`)).join(
      ""
    )

const isObject = Schema.is(Schema.Record(Schema.String, Schema.Unknown))

const valueAt = (root: unknown, path: Path): unknown => {
  let value = root
  for (const key of path) {
    if (Array.isArray(value) && typeof key === "number") value = value[key]
    else if (isObject(value) && typeof key === "string" && Object.hasOwn(value, key)) value = value[key]
    else return undefined
  }
  return value
}

const lowerFirst = (text: string): string => text.slice(0, 1).toLowerCase() + text.slice(1)

/** Members of objects that are null are absent. */
export const withoutNulls = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(withoutNulls) : isObject(value)
    ? Object.fromEntries(
      Object.entries(value).filter(([, member]) => member !== null && member !== undefined).map((
        [key, member]
      ) => [key, withoutNulls(member)])
    )
    : value
