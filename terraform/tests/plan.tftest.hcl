# Plans with a mocked provider: what the configuration decides by itself. tests/terraform/check.sh runs it.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d"] }
  }
}

variables {
  prefix = "moola"
}

run "defaults" {
  command = plan

  assert {
    condition     = keys(output.job_queue_arns) == ["cpu"]
    error_message = "a kind without vCPUs has no queue"
  }

  assert {
    condition     = output.function_names == { for name in ["predict", "predict_native", "registry", "training", "compile", "drift", "react"] : name => "moola-${name}" }
    error_message = "there are seven functions"
  }
}

run "gpu" {
  command = plan

  variables {
    trainer = { gpu_max_vcpus = 16 }
  }

  assert {
    condition     = keys(output.job_queue_arns) == ["cpu", "gpu"]
    error_message = "there is a queue for each kind of instance"
  }
}

run "no_training" {
  command = plan

  variables {
    trainer = { cpu_max_vcpus = 0 }
  }

  assert {
    condition     = length(output.job_queue_arns) == 0 && length(output.function_names) == 7
    error_message = "a deployment that only serves has no queues"
  }
}

run "schedules_hold_words_that_the_scheduler_replaces" {
  command = plan

  module {
    source = "./modules/events"
  }

  variables {
    archive_retention_days = 90
    job_queue_arns         = ["arn:aws:batch:us-east-1:123456789012:job-queue/moola-cpu"]
    drift_schedule         = null
    drift_schedules        = { m = "rate(10 minutes)" }
    retrain_schedules      = { m = "cron(0 6 ? * SUN *)" }
    timeout_secs           = { training = 120, compile = 300, drift = 300, react = 60 }
  }

  assert {
    condition     = keys(aws_scheduler_schedule.this) == ["drift.m", "maintenance", "retrain.m"]
    error_message = "without drift_schedule there is no check of drift"
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.this["maintenance"].target[0].input).moola.id == "maintenance@<aws.scheduler.scheduled-time>"
    error_message = "the firing's id is made of the time that was due"
  }

  assert {
    condition = [for name in ["drift.m", "maintenance", "retrain.m"] : try(jsondecode(aws_scheduler_schedule.this[name].target[0].input).model, null)] == ["m", null, "m"] && [
    for name in ["drift.m", "retrain.m"] : aws_scheduler_schedule.this[name].target[0].eventbridge_parameters[0].detail_type] == ["Drift Check Due", "Retrain Due"]
    error_message = "a model's own schedules name it"
  }

  assert {
    condition     = strcontains(aws_scheduler_schedule.this["maintenance"].target[0].input, "<aws.scheduler.scheduled-time>")
    error_message = "< is written as it stands, not as \\u003c"
  }

  assert {
    condition     = aws_sqs_queue.this["compile"].visibility_timeout_seconds == 1800
    error_message = "a queue hides a message for six times the function's timeout"
  }
}

run "cors_leaves_preflight_to_api_gateway" {
  command = plan

  module {
    source = "./modules/api"
  }

  variables {
    region             = "us-east-1"
    account_id         = "123456789012"
    partition          = "aws"
    functions          = { registry = { name = "moola-registry", invoke_arn = "arn:aws:lambda:us-east-1:123456789012:function:moola-registry" } }
    routes             = { "ANY /a/{proxy+}" = "registry", "GET /a" = "registry" }
    authorization      = "AWS_IAM"
    cors_origins       = ["https://console.example.com"]
    throttle           = { rate = 1, burst = 1 }
    log_retention_days = 90
    kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/k"
  }

  assert {
    condition     = length(aws_apigatewayv2_route.this) == 6 && !anytrue([for key in keys(aws_apigatewayv2_route.this) : startswith(key, "ANY ")])
    error_message = "ANY is split into methods"
  }
}

run "alerts_hold_their_placeholders" {
  command = plan

  module {
    source = "./modules/alerts"
  }

  variables {
    account_id  = "123456789012"
    bus_name    = "moola"
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/k"
    emails      = []
  }

  assert {
    condition = alltrue([
      for target in aws_cloudwatch_event_target.this :
      sort(distinct(flatten(regexall("<([a-z]+)>", target.input_transformer[0].input_template)))) == sort(keys(target.input_transformer[0].input_paths))
    ])
    error_message = "every placeholder of a sentence has its path, and every path its placeholder"
  }
}

run "refuses_what_does_not_fit" {
  command = plan

  variables {
    prefix            = "Moola_"
    architecture      = "riscv"
    authorization     = "MAYBE"
    drift_schedule    = "hourly"
    drift_schedules   = { m = "hourly" }
    retrain_schedules = { "a model" = "rate(1 day)" }
    domain            = { name = "moola.example.com" }
    retention_days    = { logs = 42 }
    trainer           = { cpu_instance_types = ["c7g"] }
    trusted_keys      = ["-----BEGIN CERTIFICATE-----\nMFkw\n-----END CERTIFICATE-----\n"]
  }

  expect_failures = [
    var.prefix,
    var.architecture,
    var.authorization,
    var.drift_schedule,
    var.drift_schedules,
    var.retrain_schedules,
    var.domain,
    var.retention_days,
    var.trainer,
    var.trusted_keys,
  ]
}
