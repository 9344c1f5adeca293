# Alarms: what a person should look at now. All of them count silence as health.

locals {
  # One alarm per row; a row names its metric and what is too much.
  alarms = merge(
    {
      for name, function in var.functions : "${name}-errors" => {
        description = "${function} failed more than 5 times in 5 minutes."
        namespace   = "AWS/Lambda", metric = "Errors", dimensions = { FunctionName = function }
        statistic   = "Sum", threshold = 5, periods = 1
      }
    },
    {
      for name, function in var.functions : "${name}-throttles" => {
        description = "${function} was refused a place to run: raise its reserved concurrency or the account's limit."
        namespace   = "AWS/Lambda", metric = "Throttles", dimensions = { FunctionName = function }
        statistic   = "Sum", threshold = 0, periods = 1
      }
    },
    {
      for name, queue in var.dead_letter_queues : "${name}-dead-letters" => {
        description = "Events that ${name} could not handle wait in ${queue}; redrive them once the cause is gone."
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = queue }
        statistic   = "Maximum", threshold = 0, periods = 1
      }
    },
    {
      api-5xx = {
        description = "More than 1 % of requests got a 5xx, for 10 minutes."
        namespace   = "AWS/ApiGateway", metric = "5xx", dimensions = { ApiId = var.api_id }
        statistic   = "Average", threshold = 0.01, periods = 2
      }
      api-p99 = {
        description = "One request in a hundred takes longer than a second, for 15 minutes."
        namespace   = "AWS/ApiGateway", metric = "Latency", dimensions = { ApiId = var.api_id }
        statistic   = "p99", threshold = 1000, periods = 3
      }
      table-read-throttles = {
        description = "DynamoDB throttled reads of ${var.table_name}: a partition is too hot."
        namespace   = "AWS/DynamoDB", metric = "ReadThrottleEvents", dimensions = { TableName = var.table_name }
        statistic   = "Sum", threshold = 0, periods = 2
      }
      table-write-throttles = {
        description = "DynamoDB throttled writes of ${var.table_name}: a partition is too hot."
        namespace   = "AWS/DynamoDB", metric = "WriteThrottleEvents", dimensions = { TableName = var.table_name }
        statistic   = "Sum", threshold = 0, periods = 2
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.prefix}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  period              = 300
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.topic_arn]
  ok_actions          = [var.topic_arn]
}

resource "aws_budgets_budget" "this" {
  count = var.monthly_budget_usd == null ? 0 : 1

  name         = "${var.prefix}-monthly"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = var.emails
      subscriber_sns_topic_arns  = [var.topic_arn]
    }
  }
}
