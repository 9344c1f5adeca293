# Schedules belong to Terraform: the functions have no permission to make any, and do not call App::start.

locals {
  schedules = merge(
    { maintenance = { expression = "rate(5 minutes)", detail_type = "Maintenance Due", model = "" } },
    var.drift_schedule == null ? {} : { drift-check = { expression = var.drift_schedule, detail_type = "Drift Check Due", model = "" } },
    # With a dot: a model may be called check.
    { for model, expression in var.drift_schedules : "drift.${model}" => { expression = expression, detail_type = "Drift Check Due", model = model } },
    { for model, expression in var.retrain_schedules : "retrain.${model}" => { expression = expression, detail_type = "Retrain Due", model = model } },
  )
}

resource "aws_scheduler_schedule_group" "this" {
  name = var.prefix
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.this.arn]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions   = ["events:PutEvents"]
    resources = [aws_cloudwatch_event_bus.this.arn]
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.prefix}-scheduler"
  description        = "Publishes what is due on the bus."
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "publish"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297:a schedule holds an event type and nothing secret
  for_each = local.schedules

  name                         = each.key
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = each.value.expression
  schedule_expression_timezone = "UTC"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_cloudwatch_event_bus.this.arn
    role_arn = aws_iam_role.scheduler.arn

    # Not jsonencode, which would write < as \u003c: the Scheduler replaces these words only as they stand. The time that
    # was due makes the id, so a firing that comes twice is recognised.
    input = chomp(<<-JSON
      {"version": 1, ${each.value.model == "" ? "" : "\"model\": \"${each.value.model}\", "}"moola": {"id": "${each.key}@<aws.scheduler.scheduled-time>", "scheduled": "<aws.scheduler.scheduled-time>"}}
    JSON
    )

    eventbridge_parameters {
      source      = "moola.schedule"
      detail_type = each.value.detail_type
    }

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 20
    }
  }
}
