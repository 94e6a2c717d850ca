"""Which of Lambda's operations are answered, by what, and where an answer falls short of AWS's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.wire import Json

Operation: TypeAlias = Callable[[LambdaState, str, str, Json], Json]
"""(state, account, region, AWS's parameters) → AWS's reply"""

OPERATIONS: Final[Mapping[str, Operation]] = {
    "AddLayerVersionPermission": LambdaState.add_layer_version_permission,
    "AddPermission": LambdaState.add_permission,
    "CreateAlias": LambdaState.create_alias,
    "CreateCapacityProvider": LambdaState.create_capacity_provider,
    "CreateCodeSigningConfig": LambdaState.create_code_signing_config,
    "CreateEventSourceMapping": LambdaState.create_event_source_mapping,
    "CreateFunction": LambdaState.create_function,
    "CreateFunctionUrlConfig": LambdaState.create_function_url_config,
    "DeleteAlias": LambdaState.delete_alias,
    "DeleteCapacityProvider": LambdaState.delete_capacity_provider,
    "DeleteCodeSigningConfig": LambdaState.delete_code_signing_config,
    "DeleteEventSourceMapping": LambdaState.delete_event_source_mapping,
    "DeleteFunction": LambdaState.delete_function,
    "DeleteFunctionCodeSigningConfig": LambdaState.delete_function_code_signing_config,
    "DeleteFunctionConcurrency": LambdaState.delete_function_concurrency,
    "DeleteFunctionEventInvokeConfig": LambdaState.delete_function_event_invoke_config,
    "DeleteFunctionUrlConfig": LambdaState.delete_function_url_config,
    "DeleteLayerVersion": LambdaState.delete_layer_version,
    "DeleteProvisionedConcurrencyConfig": LambdaState.delete_provisioned_concurrency_config,
    "GetAccountSettings": LambdaState.get_account_settings,
    "GetAlias": LambdaState.get_alias,
    "GetCapacityProvider": LambdaState.get_capacity_provider,
    "GetCodeSigningConfig": LambdaState.get_code_signing_config,
    "GetEventSourceMapping": LambdaState.get_event_source_mapping,
    "GetFunction": LambdaState.get_function,
    "GetFunctionCodeSigningConfig": LambdaState.get_function_code_signing_config,
    "GetFunctionConcurrency": LambdaState.get_function_concurrency,
    "GetFunctionConfiguration": LambdaState.get_function_configuration,
    "GetFunctionEventInvokeConfig": LambdaState.get_function_event_invoke_config,
    "GetFunctionRecursionConfig": LambdaState.get_function_recursion_config,
    "GetFunctionScalingConfig": LambdaState.get_function_scaling_config,
    "GetFunctionUrlConfig": LambdaState.get_function_url_config,
    "GetLayerVersion": LambdaState.get_layer_version,
    "GetLayerVersionByArn": LambdaState.get_layer_version_by_arn,
    "GetLayerVersionPolicy": LambdaState.get_layer_version_policy,
    "GetPolicy": LambdaState.get_policy,
    "GetProvisionedConcurrencyConfig": LambdaState.get_provisioned_concurrency_config,
    "GetRuntimeManagementConfig": LambdaState.get_runtime_management_config,
    "ListAliases": LambdaState.list_aliases,
    "ListCapacityProviders": LambdaState.list_capacity_providers,
    "ListCodeSigningConfigs": LambdaState.list_code_signing_configs,
    "ListEventSourceMappings": LambdaState.list_event_source_mappings,
    "ListFunctionEventInvokeConfigs": LambdaState.list_function_event_invoke_configs,
    "ListFunctionUrlConfigs": LambdaState.list_function_url_configs,
    "ListFunctionVersionsByCapacityProvider": LambdaState.list_function_versions_by_capacity_provider,
    "ListFunctions": LambdaState.list_functions,
    "ListFunctionsByCodeSigningConfig": LambdaState.list_functions_by_code_signing_config,
    "ListLayerVersions": LambdaState.list_layer_versions,
    "ListLayers": LambdaState.list_layers,
    "ListProvisionedConcurrencyConfigs": LambdaState.list_provisioned_concurrency_configs,
    "ListTags": LambdaState.list_tags,
    "ListVersionsByFunction": LambdaState.list_versions_by_function,
    "PublishLayerVersion": LambdaState.publish_layer_version,
    "PublishVersion": LambdaState.publish_version,
    "PutFunctionCodeSigningConfig": LambdaState.put_function_code_signing_config,
    "PutFunctionConcurrency": LambdaState.put_function_concurrency,
    "PutFunctionEventInvokeConfig": LambdaState.put_function_event_invoke_config,
    "PutFunctionRecursionConfig": LambdaState.put_function_recursion_config,
    "PutFunctionScalingConfig": LambdaState.put_function_scaling_config,
    "PutProvisionedConcurrencyConfig": LambdaState.put_provisioned_concurrency_config,
    "PutRuntimeManagementConfig": LambdaState.put_runtime_management_config,
    "RemoveLayerVersionPermission": LambdaState.remove_layer_version_permission,
    "RemovePermission": LambdaState.remove_permission,
    "TagResource": LambdaState.tag_resource,
    "UntagResource": LambdaState.untag_resource,
    "UpdateAlias": LambdaState.update_alias,
    "UpdateCapacityProvider": LambdaState.update_capacity_provider,
    "UpdateCodeSigningConfig": LambdaState.update_code_signing_config,
    "UpdateEventSourceMapping": LambdaState.update_event_source_mapping,
    "UpdateFunctionCode": LambdaState.update_function_code,
    "UpdateFunctionConfiguration": LambdaState.update_function_configuration,
    "UpdateFunctionEventInvokeConfig": LambdaState.update_function_event_invoke_config,
    "UpdateFunctionUrlConfig": LambdaState.update_function_url_config,
}

INVOCATIONS: Final = ("Invoke", "InvokeAsync", "InvokeWithResponseStream")
"""Answered by `Invocations`."""

_UNRECORDED: Final = "After AWS's service model and documentation: its replies are not recorded."

PARTIAL: Final[Mapping[str, str]] = {
    "AddLayerVersionPermission": "An OrganizationId is kept and shown, but permits nobody (organizations are unknown).",
    "CreateCapacityProvider": f"{_UNRECORDED} No instance is started: functions on managed instances run here as all"
    " others do, one invocation at a time in an environment.",
    "CreateCodeSigningConfig": "No signature is verified: all code counts as unsigned (Enforce refuses it).",
    "CreateEventSourceMapping": "Feeds from SQS queues, DynamoDB streams and Kinesis streams; Kafka, Amazon MQ,"
    " DocumentDB, tumbling windows, MetricsConfig, LoggingConfig and ProvisionedPollerConfig are refused in words.",
    "CreateFunction": "Runtimes that this machine cannot run are refused. SourceKMSKeyArn and S3ObjectStorageMode"
    " REFERENCE are answered with 501. PublishTo for a function without a capacity provider is refused in our words.",
    "CreateFunctionUrlConfig": "With AuthType AWS_IAM every caller of the function's account is let in: neither IAM's"
    " policies nor signatures are looked at, only the resource policy and the account in the signature's scope.",
    "DeleteCapacityProvider": f"{_UNRECORDED} Refused while only $LATEST of a function names it, too.",
    "DeleteCodeSigningConfig": "What AWS says of one that functions use is not recorded: the sentence is ours.",
    "GetCapacityProvider": _UNRECORDED,
    "GetFunctionScalingConfig": _UNRECORDED,
    "DeleteFunction": "What is on managed instances goes after a while, as reported: it is not recorded.",
    "Invoke": "Container images are registered, not run: 501 and a sentence. Which versions on managed instances are"
    " refused, and how, is as reported: it is not recorded.",
    "InvokeWithResponseStream": "AWS slows a stream down after its first 6 MB; here it goes as fast as it can.",
    "ListCapacityProviders": _UNRECORDED,
    "ListFunctionVersionsByCapacityProvider": _UNRECORDED,
    "PublishVersion": "PublishTo for a function without a capacity provider is refused in our words.",
    "PutFunctionScalingConfig": f"{_UNRECORDED} Kept, not acted on, but for a maximum of 0, which deactivates.",
    "PutProvisionedConcurrencyConfig": "One environment is started ahead of calls, the others when they are needed.",
    "PutRuntimeManagementConfig": "Kept and shown; no runtime is ever updated here, so there is none to go back to.",
    "UpdateCapacityProvider": _UNRECORDED,
    "UpdateEventSourceMapping": "Refuses in words what CreateEventSourceMapping does.",
}
"""Operation → in what its answers differ from AWS's, in a sentence for the docs. Not named: answered as AWS answers."""
