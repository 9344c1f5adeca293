# What people are told: rules on the bus write a sentence to a topic. No code is involved.

locals {
  # In input_template <name> stands for the value of that name in input_paths; every path is part of the event. No free
  # text: a quote in it could end the sentence.
  alerts = {
    drift = {
      pattern = { "detail-type" = ["Drift Detected"] }
      text    = "Drift: the predictions or features of <model>/<version> are not distributed as in training any more. Correlation id <chain>."
    }
    failed-run = {
      pattern = { "detail-type" = ["Run Ended"], detail = { status = ["failed"] } }
      text    = "Failed: the training run <run> of <model> ended with status <status>. GET /api/v2/training/jobs/<run> tells why. Correlation id <chain>."
    }
    failed-gates = {
      pattern = { "detail-type" = ["Gates Judged"], detail = { passed = [false] } }
      text    = "Gates: <model>/<version> did not pass and will not be promoted. Its gate report says what failed and by how much. Correlation id <chain>."
    }
    promotion = {
      pattern = { "detail-type" = ["Stage Changed"], detail = { to = ["Production"] } }
      text    = "Promoted: <model>/<version> is in production now, decided by <actor>. Correlation id <chain>."
    }
  }

  paths = {
    actor   = "$.detail.actor"
    chain   = "$.detail.moola.correlation_id"
    model   = "$.detail.model"
    run     = "$.detail.run_id"
    status  = "$.detail.status"
    version = "$.detail.model_version"
  }
}

resource "aws_sns_topic" "this" {
  name              = "${var.prefix}-alerts"
  kms_master_key_id = var.kms_key_arn
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "AlarmsAndBudget"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]

    principals {
      type        = "Service"
      identifiers = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }

  # Without a condition, as EventBridge's guide has it: rules publish to topics with none.
  statement {
    sid       = "Rules"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  arn    = aws_sns_topic.this.arn
  policy = data.aws_iam_policy_document.topic.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.emails)

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.alerts

  name           = "${var.prefix}-alert-${each.key}"
  description    = "To the topic of alerts."
  event_bus_name = var.bus_name
  event_pattern  = jsonencode(merge({ source = ["moola"] }, each.value.pattern))
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.alerts

  rule           = aws_cloudwatch_event_rule.this[each.key].name
  event_bus_name = var.bus_name
  target_id      = "alerts"
  arn            = aws_sns_topic.this.arn

  input_transformer {
    input_paths = { for name, path in local.paths : name => path if strcontains(each.value.text, "<${name}>") }
    # Not jsonencode, which would write < as \u003c.
    input_template = "\"${each.value.text}\""
  }
}
