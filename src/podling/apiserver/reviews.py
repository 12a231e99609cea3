"""Reviews: questions about users and permissions that are created, answered and never stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp.web import StreamResponse

from podling.api import codec, fields, status, time, validation
from podling.api.authentication.v1 import (
    SelfSubjectReview,
    SelfSubjectReviewStatus,
    TokenReview,
    TokenReviewStatus,
    UserInfo,
)
from podling.api.authorization.v1 import (
    FieldSelectorAttributes,
    LocalSubjectAccessReview,
    NonResourceRule,
    ResourceRule,
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
)
from podling.api.fields import EVERYTHING, Requirement, Selector
from podling.apiserver import decoding, offload, responses
from podling.apiserver.authorization import ANY_USER_PATHS, ANY_USER_RULES, PUBLIC_PATHS, Attributes
from podling.apiserver.call import Call
from podling.apiserver.user import ALL_AUTHENTICATED, MASTERS, User, node_name

Handler = Callable[[Call], Awaitable[StreamResponse]]

_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_FIELD_SELECTOR = "spec.resourceAttributes.fieldSelector"


async def token_review(call: Call) -> StreamResponse:
    review: TokenReview = await decoding.read(call, TokenReview, f"{_AUTHENTICATION}/v1", "TokenReview")
    if not review.spec.token:
        raise status.bad_request("token is required for TokenReview in authentication")
    wanted = review.spec.audiences or [call.state.tokens.issuer]
    review.status = TokenReviewStatus(error="invalid bearer token")
    user = call.state.authenticator.by_token(review.spec.token, wanted)
    if user is not None:
        known = frozenset(user.audiences)
        good_for = [item for item in wanted if item in known] if known else wanted
        review.status = TokenReviewStatus(authenticated=True, user=_user_info(user), audiences=good_for)
    return await _created(call, codec.encode(review))


async def self_subject_review(call: Call) -> StreamResponse:
    kind = "SelfSubjectReview"
    review: SelfSubjectReview = await decoding.read(call, SelfSubjectReview, f"{_AUTHENTICATION}/v1", kind)
    review.metadata.creation_timestamp = time.now()
    review.status = SelfSubjectReviewStatus(user_info=_user_info(call.user))
    return await _created(call, codec.encode(review))


async def self_subject_access_review(call: Call) -> StreamResponse:
    kind = "SelfSubjectAccessReview"
    review: SelfSubjectAccessReview = await decoding.read(call, SelfSubjectAccessReview, f"{_AUTHORIZATION}/v1", kind)
    await _check(call, review)
    review.status = await _decide(call, call.user, review.spec)
    return await _created(call, codec.encode(review))


async def subject_access_review(call: Call) -> StreamResponse:
    kind = "SubjectAccessReview"
    review: SubjectAccessReview = await decoding.read(call, SubjectAccessReview, f"{_AUTHORIZATION}/v1", kind)
    await _check(call, review)
    review.status = await _decide(call, _subject(review.spec), review.spec)
    return await _created(call, codec.encode(review))


async def local_subject_access_review(call: Call) -> StreamResponse:
    kind = "LocalSubjectAccessReview"
    review: LocalSubjectAccessReview = await decoding.read(call, LocalSubjectAccessReview, f"{_AUTHORIZATION}/v1", kind)
    if not call.info.namespace:
        raise status.bad_request("namespace is required on this type: ")
    review.metadata.namespace = review.metadata.namespace or call.info.namespace
    await _check(call, review)
    if review.metadata.namespace != call.info.namespace:
        raise status.bad_request(f"spec.resourceAttributes.namespace must match namespace: {call.info.namespace}")
    review.status = await _decide(call, _subject(review.spec), review.spec)
    return await _created(call, codec.encode(review))


async def self_subject_rules_review(call: Call) -> StreamResponse:
    kind = "SelfSubjectRulesReview"
    review: SelfSubjectRulesReview = await decoding.read(call, SelfSubjectRulesReview, f"{_AUTHORIZATION}/v1", kind)
    namespace = review.spec.namespace
    if not namespace:
        raise status.bad_request("no namespace on request")
    review.status = _rules(call.user, namespace)
    return await _created(call, codec.encode(review))


HANDLERS: dict[tuple[str, str, str], Handler] = {
    (_AUTHENTICATION, "v1", "tokenreviews"): token_review,
    (_AUTHENTICATION, "v1", "selfsubjectreviews"): self_subject_review,
    (_AUTHORIZATION, "v1", "selfsubjectaccessreviews"): self_subject_access_review,
    (_AUTHORIZATION, "v1", "subjectaccessreviews"): subject_access_review,
    (_AUTHORIZATION, "v1", "localsubjectaccessreviews"): local_subject_access_review,
    (_AUTHORIZATION, "v1", "selfsubjectrulesreviews"): self_subject_rules_review,
}
"""By group, version and plural; POST is their only verb."""


async def _created(call: Call, value: bytes) -> StreamResponse:
    return await responses.send(call, value, code=201, media_type=call.accepted(transform=False).media_type)


def _user_info(user: User) -> UserInfo:
    return UserInfo(username=user.name, uid=user.uid, groups=list(user.groups), extra=dict(user.extra))


async def _check(call: Call, review: SelfSubjectAccessReview | SubjectAccessReview | LocalSubjectAccessReview) -> None:
    """Raises ApiError (422)."""
    if errors := await offload.run(call.large, validation.validate_access_review, review):
        raise status.invalid(f"{review.kind}.{_AUTHORIZATION}", "", errors)


def _subject(spec: SubjectAccessReviewSpec) -> User:
    return User(spec.user, spec.uid, tuple(spec.groups), spec.extra)


async def _decide(
    call: Call, user: User, spec: SelfSubjectAccessReviewSpec | SubjectAccessReviewSpec
) -> SubjectAccessReviewStatus:
    resource, path = spec.resource_attributes, spec.non_resource_attributes
    problem = ""
    if resource is not None:
        selector, problem = await offload.run(call.large, _selector, resource.field_selector)
        attributes = Attributes(
            verb=resource.verb,
            group=resource.group,
            version=resource.version,
            resource=resource.resource or "*",
            subresource=resource.subresource,
            namespace=resource.namespace,
            name=resource.name,
            field_selector=selector,
        )
    else:
        assert path is not None
        attributes = Attributes(verb=path.verb, path=path.path)
    decision = call.state.authorizer.authorize(user, attributes)
    return SubjectAccessReviewStatus(allowed=decision.allowed, reason=decision.reason, evaluation_error=problem)


def _selector(asked: FieldSelectorAttributes | None) -> tuple[Selector, str]:
    """Return what the action is restricted to, and upstream's words where a part was not understood.

    Leaving out a requirement asks for more, so that the decision is never too generous."""
    if asked is None:
        return EVERYTHING, ""
    if asked.raw_selector:
        try:
            return fields.parse(asked.raw_selector), ""
        except ValueError:
            return EVERYTHING, f"{_FIELD_SELECTOR} ignored due to parse error"
    known = tuple(
        Requirement(item.key, item.values[0], negated=item.operator == "NotIn")
        for item in asked.requirements
        if item.operator in ("In", "NotIn") and len(item.values) == 1
    )
    if len(known) == len(asked.requirements):
        return Selector(known), ""
    return Selector(known), f"{_FIELD_SELECTOR} {'partially ' if known else ''}ignored due to parse error"


def _rules(user: User, namespace: str) -> SubjectRulesReviewStatus:
    if MASTERS in user.groups:
        everything = ResourceRule(verbs=["*"], api_groups=["*"], resources=["*"])
        paths = NonResourceRule(verbs=["*"], non_resource_urls=["*"])
        return SubjectRulesReviewStatus(resource_rules=[everything], non_resource_rules=[paths], incomplete=False)
    rules = [
        ResourceRule(verbs=sorted(rule.verbs), api_groups=[rule.group], resources=sorted(rule.resources))
        for rule in ANY_USER_RULES
        if ALL_AUTHENTICATED in user.groups and rule.namespace in ("", namespace)
    ]
    urls = [*PUBLIC_PATHS, *(ANY_USER_PATHS if ALL_AUTHENTICATED in user.groups else ())]
    paths = NonResourceRule(verbs=["get"], non_resource_urls=urls)
    answer = SubjectRulesReviewStatus(resource_rules=rules, non_resource_rules=[paths], incomplete=False)
    if node_name(user) is not None:
        answer.incomplete = True
        answer.evaluation_error = "node authorizer does not support user rule resolution"
    return answer
